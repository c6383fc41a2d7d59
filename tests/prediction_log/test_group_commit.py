from __future__ import annotations

import asyncio
import sqlite3
import threading

import pytest

from fraud_kedro.errors import PredictionLogError
from fraud_kedro.prediction_log import GroupCommit, open_for_reading
from fraud_kedro.prediction_log.group_commit import LogFullError


def count(url):
    reader = open_for_reading(url)
    rows = reader.count()
    reader.close()
    return rows


def test_concurrent_requests_share_transactions(writer, log_url, record):
    commits = []

    async def serve():
        group = GroupCommit(writer, observe=lambda records, _: commits.append(records))
        answers = await asyncio.gather(*(group.add(record(str(i))) for i in range(200)))
        await group.close()
        return answers

    answers = asyncio.run(serve())
    assert [a.transaction_id for a in answers] == [str(i) for i in range(200)]
    assert sum(commits) == 200
    assert len(commits) == 1
    assert count(log_url) == 200


def test_an_answer_is_there_only_after_its_commit(writer, log_url, record):
    async def serve():
        group = GroupCommit(writer)
        for number in range(20):
            await group.add(record(str(number)))
            # Another connection sees it: it is committed.
            assert count(log_url) == number + 1
        await group.close()

    asyncio.run(serve())


def test_each_repeated_request_gets_its_stored_answer_and_others_a_conflict(writer, record):
    async def serve():
        group = GroupCommit(writer)
        first = await group.add(record("one", probability=0.25))
        same, other, new = await asyncio.gather(
            group.add(record("one", probability=0.5)),
            group.add(record("one", request_hash="b" * 32)),
            group.add(record("two")),
        )
        await group.close()
        return first, same, other, new

    first, same, other, new = asyncio.run(serve())
    assert first.probability == same.probability == 0.25
    assert other is None
    assert new.transaction_id == "two"


def test_a_batch_is_no_larger_than_its_limit(writer, log_url, record):
    sizes = []

    async def serve():
        group = GroupCommit(writer, batch_limit=30, observe=lambda records, _: sizes.append(records))
        await asyncio.gather(*(group.add(record(str(i))) for i in range(100)))
        await group.close()

    asyncio.run(serve())
    assert sizes == [30, 30, 30, 10]
    assert count(log_url) == 100


def test_beyond_its_limit_the_queue_refuses(writer, record):
    async def serve():
        group = GroupCommit(writer, waiting_limit=5)
        waiting = [group.add(record(str(i))) for i in range(5)]
        with pytest.raises(LogFullError, match="5 predictions wait"):
            group.add(record("6"))
        await asyncio.gather(*waiting)
        assert (await group.add(record("6"))).transaction_id == "6"
        await group.close()

    asyncio.run(serve())


def test_closing_commits_what_waits(writer, log_url, record):
    async def serve():
        group = GroupCommit(writer)
        answers = [group.add(record(str(i))) for i in range(10)]
        await group.close()
        return [a.done() for a in answers]

    assert asyncio.run(serve()) == [True] * 10
    assert count(log_url) == 10


def test_a_client_that_hung_up_is_logged_all_the_same(writer, log_url, record):
    async def serve():
        group = GroupCommit(writer)
        gone, there = group.add(record("gone")), group.add(record("there"))
        gone.cancel()
        await there
        await group.close()

    asyncio.run(serve())
    assert count(log_url) == 2


def test_a_failed_commit_fails_its_requests_alone(writer, record, log_url):
    async def serve():
        group = GroupCommit(writer)
        results = await asyncio.gather(
            group.add(record("bad", probability=None)), group.add(record("with it")), return_exceptions=True
        )
        assert all(isinstance(r, PredictionLogError) for r in results)
        assert isinstance(group.last_failure, PredictionLogError)
        await group.add(record("next"))
        assert group.last_failure is None
        await group.close()

    asyncio.run(serve())
    assert count(log_url) == 1


def test_a_defect_in_the_writer_reaches_its_requests_and_those_after_it_go_on(writer, record, monkeypatch):
    commit = writer._commit
    monkeypatch.setattr(writer, "_commit", lambda *_: {}["defect"])

    async def serve():
        group = GroupCommit(writer)
        with pytest.raises(KeyError):
            await asyncio.wait_for(group.add(record("one")), timeout=10)
        monkeypatch.setattr(writer, "_commit", commit)
        assert await asyncio.wait_for(group.add(record("two")), timeout=10) is not None
        await group.close()

    asyncio.run(serve())


class TestSqlite:
    @pytest.fixture
    def log_url(self, tmp_path):
        return f"sqlite:///{tmp_path / 'log.db'}"

    def test_another_writer_does_not_hold_up_the_loop(self, writer, log_url, record):
        other = sqlite3.connect(
            log_url.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False
        )
        other.execute("BEGIN IMMEDIATE")

        async def serve():
            group = GroupCommit(writer)
            answer = group.add(record("one"))
            turns = 0
            threading.Timer(0.3, lambda: other.execute("ROLLBACK")).start()
            while not answer.done():
                await asyncio.sleep(0.01)
                turns += 1
            await group.close()
            return turns

        assert asyncio.run(serve()) >= 10
        assert count(log_url) == 1

    def test_slow_commits_move_to_a_thread_and_quick_ones_back(self, writer, record, monkeypatch):
        threads, slow = [], threading.Event()

        def watched(records, patience):
            threads.append(threading.current_thread() is threading.main_thread())
            if slow.is_set():
                threading.Event().wait(0.02)
            # Commits nothing: a busy disk would not be quick.

        monkeypatch.setattr(writer, "_commit", watched)

        async def serve():
            group = GroupCommit(writer)
            slow.set()
            for number in range(20):
                await group.add(record(f"slow{number}"))
            assert threads[0] is True
            assert threads[-1] is False
            slow.clear()
            for number in range(200):
                await group.add(record(f"quick{number}"))
            await group.close()

        asyncio.run(serve())
        assert True in threads[20:], "quick commits never came back to the loop's thread"


class TestBackground:
    """An answer before its commit."""

    def test_an_answer_does_not_wait_and_closing_commits_it(self, writer, log_url, record):
        async def serve():
            group = GroupCommit(writer, background=True)
            answers = [group.add(record(str(i))) for i in range(50)]
            done = [a.done() for a in answers]
            waiting = group.waiting
            await group.close()
            return done, waiting

        done, waiting = asyncio.run(serve())
        assert done == [True] * 50
        assert waiting == 50
        assert count(log_url) == 50

    def test_an_outage_loses_nothing_and_says_how_long_it_lasts(self, writer, log_url, record, monkeypatch):
        commit, lost = writer._commit, []

        def away(*_):
            raise sqlite3.OperationalError("away")

        monkeypatch.setattr(writer, "_commit", away)

        async def serve():
            group = GroupCommit(writer, background=True, waiting_limit=30, observe_lost=lost.append)
            for number in range(30):
                await group.add(record(str(number)))
            with pytest.raises(LogFullError):
                group.add(record("one too many"))
            while group.last_failure is None:
                await asyncio.sleep(0.01)
            assert group.oldest_seconds > 0
            monkeypatch.setattr(writer, "_commit", commit)
            while group.waiting:
                await asyncio.sleep(0.01)
            assert (group.last_failure, group.oldest_seconds) == (None, 0.0)
            await group.close()

        asyncio.run(serve())
        assert count(log_url) == 30
        assert lost == []

    def test_what_cannot_be_committed_before_the_end_is_counted_as_lost(self, writer, record, monkeypatch):
        lost = []

        def away(*_):
            raise sqlite3.OperationalError("away")

        monkeypatch.setattr(writer, "_commit", away)

        async def serve():
            group = GroupCommit(writer, background=True, drain_seconds=0.1, observe_lost=lost.append)
            for number in range(7):
                await group.add(record(str(number)))
            await group.close()

        asyncio.run(serve())
        assert lost == [7]

    def test_one_row_that_cannot_be_logged_is_lost_alone(self, writer, log_url, record):
        lost = []

        async def serve():
            group = GroupCommit(writer, background=True, observe_lost=lost.append)
            for number in range(20):
                await group.add(record(str(number)))
            await group.add(record("bad", probability=None))
            await group.add(record("1", request_hash="b" * 32))
            await group.close()

        asyncio.run(serve())
        assert count(log_url) == 20
        assert sum(lost) == 2


def test_a_log_that_is_closed_refuses_at_once(writer, record):
    async def serve():
        group = GroupCommit(writer)
        await group.close()
        with pytest.raises(PredictionLogError, match="closed"):
            group.add(record("one"))

    asyncio.run(serve())
