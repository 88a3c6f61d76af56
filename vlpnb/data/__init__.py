"""Readers of public dataset formats, HDF5 stores and downloads."""
