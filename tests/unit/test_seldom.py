"""What the libraries underneath say in the log of a distributed part."""

from __future__ import annotations

import io
import logging

import pytest

from tipline.distributed import Seldom


@pytest.mark.parametrize(("name", "ours"), [("aiokafka.conn", False), ("tipline.worker", True)])
def test_a_librarys_exception_is_one_line_and_ours_is_whole(name: str, ours: bool) -> None:
    said, logger = io.StringIO(), logging.getLogger(f"{name}.of_a_test")
    handler = logging.StreamHandler(said)
    handler.addFilter(Seldom())
    logger.addHandler(handler)
    try:
        for _ in range(2):
            try:
                raise ConnectionResetError(104, "Connection reset by peer")
            except ConnectionResetError:
                logger.exception("socket %s\nis closed", 7)
    finally:
        logger.removeHandler(handler)
    text = said.getvalue()
    assert "socket 7" in text and "ConnectionResetError" in text
    if ours:
        assert text.count("Traceback") == 2
    else:
        assert text == "socket 7 is closed (ConnectionResetError)\n"
