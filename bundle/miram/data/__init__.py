"""Images from disk: readers, crops, the prepared folder and what makes one."""
