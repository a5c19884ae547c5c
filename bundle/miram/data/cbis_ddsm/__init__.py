"""CBIS-DDSM: its tables and DICOM files, as The Cancer Imaging Archive or the IDC give them, made into crops."""
