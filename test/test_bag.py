"""Bags: what is written is what is read, by every reader; a half bag is never taken for a whole one."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import yaml
from mcap.reader import make_reader
from rosbags.highlevel import AnyReader

from optr.episodes import BagWriter, Recording, SequenceCheck, TopicInfo
from optr.episodes.read import EpisodeReader, Series, count_violations
from optr.errors import EpisodeError
from optr.ros.convert import JointStateWriter
from optr.ros.messages import message_definition
from optr.ros.qos import STATE_QOS, qos_text
from optr.spec import Command

STATES = "/joint_states"
JOINT_STATE_HASH = "RIHS01_a13ee3a330e346c9d87b5aa18d24e11690752bd33a0350f11c5882bc9179260e"


def info(name: str = STATES) -> TopicInfo:
    kind = "sensor_msgs/msg/JointState"
    return TopicInfo(name, kind, message_definition(kind), JOINT_STATE_HASH, qos_text([STATE_QOS]))


def message(k: int) -> bytes:
    return JointStateWriter(("a", "b"), fields=1).command(Command(k * 10**9, np.array([k * 0.1, -k * 0.1])))


def fill(writer: BagWriter, count: int = 10) -> None:
    writer.add_topic(info())
    for k in range(1, count + 1):
        writer.write(STATES, message(k), 1000 + k, 900 + k, k)


class TestWhole:
    @pytest.fixture
    def bag(self, tmp_path):
        writer = BagWriter(
            tmp_path / "one", {"task": "reach", "seed": 7, "versions": {"optr": "0"}}, {"spec.yaml": "a: 1"}
        )
        fill(writer)
        return writer.close({"outcome": "success"})

    def test_holds_the_bytes_and_both_stamps(self, bag):
        with (bag / "one_0.mcap").open("rb") as stream:
            found = list(make_reader(stream).iter_messages())
        assert [m.data for _, _, m in found] == [message(k) for k in range(1, 11)]
        assert [(m.log_time, m.publish_time, m.sequence) for _, _, m in found][:2] == [(1001, 901, 1), (1002, 902, 2)]
        schema, channel, _ = found[0]
        assert (schema.name, schema.encoding, channel.message_encoding) == (
            "sensor_msgs/msg/JointState",
            "ros2msg",
            "cdr",
        )
        assert "MSG: std_msgs/Header" in schema.data.decode()
        assert channel.metadata["topic_type_hash"].startswith("RIHS01_")

    def test_is_read_by_rosbags(self, bag):
        with AnyReader([bag]) as reader:
            (connection,) = reader.connections
            assert connection.topic == STATES
            read = [reader.deserialize(d, connection.msgtype) for _, _, d in reader.messages()]
        assert [m.header.stamp.sec for m in read] == list(range(1, 11))

    def test_metadata_is_that_of_rosbag2(self, bag):
        text = (bag / "metadata.yaml").read_text()
        assert "&id" not in text, "rosbag2 reads no YAML anchors in all versions"
        found = yaml.safe_load(text)["rosbag2_bagfile_information"]
        assert (found["version"], found["storage_identifier"], found["message_count"]) == (9, "mcap", 10)
        assert found["relative_file_paths"] == ["one_0.mcap"]
        (topic,) = found["topics_with_message_count"]
        assert topic["message_count"] == 10
        (qos,) = topic["topic_metadata"]["offered_qos_profiles"]
        assert (qos["history"], qos["depth"], qos["reliability"], qos["durability"]) == (
            "keep_last",
            10,
            "reliable",
            "volatile",
        )
        assert set(qos["deadline"]) == {"sec", "nsec"}

    def test_facts_and_counts_are_inside(self, bag):
        reader = EpisodeReader(bag)
        assert reader.facts() == {"task": "reach", "seed": 7, "versions": {"optr": "0"}, "outcome": "success"}
        assert reader.counts() == {STATES: {"messages": 10, "dropped": 0}}
        with (bag / "one_0.mcap").open("rb") as stream:
            (attached,) = make_reader(stream).iter_attachments()
        assert (attached.name, attached.data) == ("spec.yaml", b"a: 1")

    def test_raw_messages_come_back(self, bag):
        assert EpisodeReader(bag).raw("joint_states") == [message(k) for k in range(1, 11)]


class TestNotWhole:
    def test_has_no_name_until_it_is_closed(self, tmp_path):
        writer = BagWriter(tmp_path / "one", {})
        fill(writer)
        assert [p.name for p in tmp_path.iterdir()] == ["one.partial"]
        writer.abort()
        assert [p.name for p in tmp_path.iterdir()] == ["one.partial"]
        with pytest.raises(EpisodeError, match="is no whole bag"):
            EpisodeReader(tmp_path / "one.partial")

    def test_discarded_leaves_nothing(self, tmp_path):
        writer = BagWriter(tmp_path / "one", {})
        fill(writer)
        writer.discard()
        assert list(tmp_path.iterdir()) == []

    def test_never_overwrites(self, tmp_path):
        writer = BagWriter(tmp_path / "one", {})
        fill(writer)
        writer.close()
        with pytest.raises(EpisodeError, match="exists already"):
            BagWriter(tmp_path / "one", {})

    def test_says_where_it_cannot_write(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(EpisodeError, match="cannot write a bag to .*one"):
            BagWriter(tmp_path / "file" / "one", {})

    def test_without_facts_is_not_one_of_ours(self, tmp_path):
        writer = BagWriter(tmp_path / "one", {})
        fill(writer)
        writer.close()
        reader = EpisodeReader(tmp_path / "one")
        assert reader.facts() == {}
        with pytest.raises(EpisodeError, match="holds no 'elsewhere'"):
            reader._record("elsewhere")


class TestRecording:
    def test_counts_gaps_in_the_publishers_numbers(self, tmp_path):
        recording, check = Recording(tmp_path / "one", {}), SequenceCheck()
        for sequence in (1, 2, 5, 6, 6, 10):
            recording.add(info(), message(1), 1, 1, sequence, check.missing(sequence))
        recording.close({})
        assert recording.dropped == 2 + 3
        assert EpisodeReader(tmp_path / "one").counts()[STATES] == {"messages": 6, "dropped": 5}
        assert EpisodeReader(tmp_path / "one").facts()["dropped"] == 5

    def test_what_a_publisher_sent_before_it_was_heard_is_missing_too(self):
        check = SequenceCheck()
        assert [check.missing(n) for n in (4, 5, 2, 3)] == [3, 0, 1, 0], "a number that falls is a new publisher"

    def test_a_disk_that_fills_up_is_an_error_and_everything_lost_is_counted(self, tmp_path, monkeypatch):
        recording = Recording(tmp_path / "one", {})
        recording.add(info(), message(1), 1, 1, 1)

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(recording.writer._writer, "add_message", full)
        while recording.error is None:
            recording.add(info(), message(2), 2, 2, 2)
        with pytest.raises(EpisodeError, match="No space left on device"):
            recording.close({})
        assert recording.overflowed >= 1
        assert not (tmp_path / "one").exists()
        assert (tmp_path / "one.partial").exists()


class TestViolations:
    """The judge of the demo's bags must see what is wrong."""

    def commands(self, spec, change=None) -> Series:
        rows = np.tile(spec.home_vector(), (10, 1))
        if change is not None:
            change(rows)
        return Series(10**9 + np.arange(10) * spec.period_ns, rows)

    def test_a_standing_arm_violates_nothing(self, spec):
        assert count_violations(spec, self.commands(spec)) == 0

    def test_outside_too_fast_and_too_hard_are_seen(self, spec):
        def outside(rows):
            rows[:, 0] = spec.limits.high[0] + 0.01

        def fast(rows):
            rows[:, 0] = np.arange(10) * 2.9 * 0.02

        def hard(rows):
            rows[5:, 0] = 0.02

        assert count_violations(spec, self.commands(spec, outside)) == 10
        assert count_violations(spec, self.commands(spec, fast)) >= 9
        assert count_violations(spec, self.commands(spec, hard)) >= 1

    def test_a_reset_in_the_bag_is_a_new_beginning(self, spec):
        series = self.commands(spec)
        series.stamps_ns[:3] += 10**9
        assert len(series.since_reset().stamps_ns) == 7
        assert count_violations(spec, series.since_reset()) == 0
        assert len(self.commands(spec).since_reset().stamps_ns) == 10

    def test_stamps_that_do_not_grow_are_an_error(self, spec):
        series = self.commands(spec)
        series.stamps_ns[5] = series.stamps_ns[4]
        with pytest.raises(EpisodeError, match="do not grow"):
            count_violations(spec, series)


def test_definitions_hold_all_that_a_type_contains():
    text = message_definition("optr_interfaces/msg/ActionChunk")
    for inner in ("std_msgs/Header", "builtin_interfaces/Time", "builtin_interfaces/Duration"):
        assert f"MSG: {inner}" in text
    assert json.dumps(text)
    assert os.linesep == "\n"
