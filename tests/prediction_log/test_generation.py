from __future__ import annotations

import threading

from fraud_kedro.prediction_log import open_for_writing, raise_generation, read_generation


def test_a_log_begins_at_nought_and_every_raise_counts(writer, log_url):
    assert read_generation(writer.engine) == 0
    others = [open_for_writing(log_url) for _ in range(3)]
    threads = [
        threading.Thread(target=lambda engine=other.engine: [raise_generation(engine) for _ in range(10)])
        for other in others
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for other in others:
        other.close()
    assert read_generation(writer.engine) == 30
    assert raise_generation(writer.engine) == 31


def test_another_role_gets_the_answer_there_is_and_a_shadow_its_own_row(writer, log_url, record):
    first = record("one", role="challenger", probability=0.25)
    writer.write([first, record("two")])
    asked = [record("one"), record("one", role="shadow", probability=0.75), record("three")]
    answers = writer.write(asked)
    assert [answer.role for answer in answers] == ["challenger", "shadow", "champion"]
    assert [answer.probability for answer in answers[:2]] == [0.25, 0.75]
    assert writer.write([record("one", request_hash="b" * 32)]) == [None]
