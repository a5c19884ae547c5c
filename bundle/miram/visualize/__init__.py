"""Pictures for people: curves and reconstruction panels."""
