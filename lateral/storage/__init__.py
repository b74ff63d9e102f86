"""What lies on the disk: files that are written whole or not at all, and the archives that runs are kept in.

`files` writes, whatever it is; `archive` reads and writes arrays with a header and trusts nothing it reads;
`description` and `parameters` say in JSON what was trained, and build it again; `migration` brings the files of earlier
versions up to this one.
"""

from lateral.storage.archive import read_archive, write_archive
from lateral.storage.files import check_writable, save_somewhere, whole_file

__all__ = ["check_writable", "read_archive", "save_somewhere", "whole_file", "write_archive"]
