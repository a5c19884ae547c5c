"""
A miniature CBIS-DDSM with generated mammograms, in the formats of the real data set.

Read in this order: `generate` (the whole process), `patients` (patients and their lesions), `films` (files and table
rows), `mammogram` (pixels), `data_files` (writing).
"""
