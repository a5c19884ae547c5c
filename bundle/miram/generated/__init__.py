"""
A miniature CBIS-DDSM with generated mammograms, in the real one's formats.

Read in this order: `generate` (the whole of it), `patients` (who has what), `films` (which file and row holds it),
`mammogram` (how it looks), `dicom_files` and `csv_files` (how it is written).
"""
