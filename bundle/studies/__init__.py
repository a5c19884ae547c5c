"""Studies with the package: what a step costs, and how methods compare. Not part of a packaged bundle."""
