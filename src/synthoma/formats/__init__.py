"""Parsing of files: pictures, tables, archives of arrays. Bytes in, arrays and rows out; no idea of what they are for."""
