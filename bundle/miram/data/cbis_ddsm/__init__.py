"""CBIS-DDSM: its four tables and its DICOM files, as The Cancer Imaging Archive or the IDC give them, made into crops."""
