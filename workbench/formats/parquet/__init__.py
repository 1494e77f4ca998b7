"""Parquet: the archive that holds any width, read by `workbench.load` and by any Parquet reader."""

from workbench.formats.format import Format
from workbench.formats.parquet.codec import ParquetCodec, nearest, options
from workbench.formats.parquet.loading import LOADING
from workbench.formats.parquet.reader import ParquetPayload, checker
from workbench.formats.parquet.writer import ParquetWriter, layout_of

FORMAT = Format(
    name="parquet",
    title="Parquet",
    about="an archive of any width, which no runtime runs from",
    offered=options,
    nearest=nearest,
    codec=ParquetCodec(),
    lay_out=layout_of,
    writer=ParquetWriter,
    open=ParquetPayload,
    checker=checker,
    loading=LOADING,
    is_exact=False,
)
"""The record of the format."""
