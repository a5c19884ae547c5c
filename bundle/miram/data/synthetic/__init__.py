"""A miniature CBIS-DDSM with generated mammograms, in the real one's formats."""
