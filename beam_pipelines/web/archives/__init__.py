"""Reading WARC, ARC and WET files: records, payloads, encodings."""
