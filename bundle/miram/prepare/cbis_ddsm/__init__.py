"""CBIS-DDSM: download, tables, and crops of lesions."""
