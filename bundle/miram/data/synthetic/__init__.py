"""
A miniature CBIS-DDSM with generated mammograms, in the real one's formats.

Read in this order: `generate` (the whole of it), `cases` (who has what), `plan` (which file and row holds it),
`mammogram` (how it looks), `dicom_files` and `tables` (how it is written).
"""
