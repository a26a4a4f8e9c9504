"""Traces on disk. A folder holds

arrays.zarr/            the numbers of `Trace.tree`: zarr v3, sharded, blosc-zstd with bit shuffle and crc32c
tables/*.parquet        words, tokens, sites; words and tokens of the negative prompt, if there is one
pictures/0.png ...      with the run's id in a text chunk
manifest.json           written last: schema version, run, names on axes, size and BLAKE2b hash of every file

The hashes notice damage; they are no signature, so they do not say who wrote a trace.
"""

from probe.store.manifest import SCHEMA
from probe.store.read import BUDGET, open_trace
from probe.store.verify import Report, verify
from probe.store.write import write_trace

__all__ = ["BUDGET", "SCHEMA", "Report", "open_trace", "verify", "write_trace"]
