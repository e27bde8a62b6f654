"""What a worker's log says of a download."""

from __future__ import annotations

import logging

import pytest

from vitascope.worker.downloads import DownloadLog


def said(caplog: pytest.LogCaptureFixture, *calls: tuple[int, int]) -> list[str]:
    log = DownloadLog()
    with caplog.at_level(logging.INFO):
        for call in calls:
            log(*call)
    return [record.getMessage() for record in caplog.records]


def test_it_speaks_at_every_further_five_percent_and_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    lines = said(caplog, *((done, 2_000_000_000) for done in range(0, 2_000_000_001, 20_000_000)))
    assert len(lines) == 20
    assert lines[0] == "downloading the model: 5 % of 2.00 GB"
    assert lines[-1] == "downloading the model: 100 % of 2.00 GB"


def test_it_is_silent_where_everything_is_here(caplog: pytest.LogCaptureFixture) -> None:
    assert said(caplog, (100, 100)) == []


def test_a_resumed_download_speaks_from_where_it_stands(caplog: pytest.LogCaptureFixture) -> None:
    assert said(caplog, (97, 100), (99, 100), (100, 100)) == ["downloading the model: 100 % of 0.00 GB"]
