"""The structure of HDF5 files, read without the HDF5 library: bounded, and following no link.

What a file says of its groups, datasets and attributes is read; of its data nothing is. Source of
the format: "HDF5 File Format Specification Version 3.0", https://support.hdfgroup.org/documentation/
"""

from holdfast.trust.hdf5.file import Hdf5Dataset, Hdf5File, Hdf5Link, find_superblock, read_hdf5

__all__ = ["Hdf5Dataset", "Hdf5File", "Hdf5Link", "find_superblock", "read_hdf5"]
