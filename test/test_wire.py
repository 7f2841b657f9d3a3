"""Serialized messages read and written in place, with rclpy as the oracle."""

from __future__ import annotations

from array import array

import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from rclpy.serialization import deserialize_message, serialize_message
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import Image, JointState

from optr.ros.wire import WireReader, WireWriter
from optr_interfaces.msg import ActionChunk, StepResult


def _states(count=40):
    for i in range(count):
        names = ["pan", "lift", "a_longer_name"][: 1 + i % 3]
        msg = JointState(name=names)
        msg.header.frame_id = "base" * (i % 4)
        msg.header.stamp.sec, msg.header.stamp.nanosec = i, 999_999_999 - i
        msg.position = array("d", [i + 0.25 * k for k in range(len(names))])
        if i % 5:
            msg.velocity = array("d", [-float(i)] * len(names))
        yield msg


def _chunks(count=40):
    for i in range(count):
        rows = i % 4
        msg = ActionChunk(operator_id=f"who{i // 10}", sequence=2**40 + i, source=i % 6, names=["a", "bcd"])
        msg.values = array("d", [0.5 * i] * 2 * rows)
        msg.header.stamp.sec = msg.start.sec = msg.observation_stamp.sec = i
        msg.period.nanosec = 20_000_000
        yield msg


@pytest.mark.parametrize(("type_", "messages"), [(JointState, _states), (ActionChunk, _chunks)])
def test_reads_what_rclpy_reads(type_, messages):
    reader = WireReader(type_)
    for _ in range(2):
        for msg in messages():
            assert reader.read(serialize_message(msg)) == msg


@pytest.mark.parametrize(("type_", "messages"), [(JointState, _states), (ActionChunk, _chunks)])
def test_writes_what_rclpy_reads(type_, messages):
    ours = type_()
    writer = WireWriter(ours)
    for msg in messages():
        for field in msg.get_fields_and_field_types():
            setattr(ours, field, getattr(msg, field))
        assert deserialize_message(WireWriter(ours).write(), type_) == msg
        assert deserialize_message(writer.write(), type_) == msg


def test_same_message_same_bytes_of_the_length_that_other_readers_expect():
    typestore = get_typestore(Stores.ROS2_JAZZY)
    for msg in _states():
        data = WireWriter(msg).write()
        assert data == WireWriter(msg).write()
        assert list(typestore.deserialize_cdr(data, "sensor_msgs/msg/JointState").position) == list(msg.position)


def test_arrays_outlive_the_next_message():
    reader = WireReader(JointState)
    first, second = list(_states())[1::3][:2]
    reader.read(serialize_message(first))
    kept = reader.read(serialize_message(first)).position
    before = list(kept)
    reader.read(serialize_message(second))
    assert list(kept) == before


def test_a_renamed_joint_is_noticed_by_the_writer():
    msg = JointState(name=["a", "b"], position=[1.0, 2.0])
    writer = WireWriter(msg)
    writer.write()
    msg.name[1] = "c"
    msg.position[0] = 7.0
    assert deserialize_message(writer.write(), JointState) == msg


def test_a_replaced_header_is_noticed_by_the_writer():
    msg = JointState(name=["a"], position=[1.0])
    writer = WireWriter(msg)
    writer.write()
    msg.header = type(msg.header)()
    msg.header.stamp.sec = 5
    assert deserialize_message(writer.write(), JointState) == msg


def test_nested_numbers():
    msg = PoseStamped()
    reader, writer = WireReader(PoseStamped), WireWriter(msg)
    for x in (0.0, 1.5, -2.0):
        msg.pose.position.x, msg.pose.orientation.z = x, 2 * x
        assert reader.read(writer.write()) == msg


def test_every_kind_of_number():
    msg = StepResult(task="t", seed=2**40, episode=3, step=4, reward=0.5, terminated=True)
    writer, reader = WireWriter(msg), WireReader(StepResult)
    for step in range(5):
        msg.step, msg.success = step, bool(step % 2)
        assert reader.read(writer.write()) == msg


def test_what_is_not_understood_goes_through_rclpy():
    image = Image(height=1, width=2, data=[1, 2, 3])
    assert WireReader(Image).read(serialize_message(image)) == image
    with pytest.raises(TypeError, match="Image holds sequence<uint8>, which only rclpy can write"):
        WireWriter(image)
    health = DiagnosticArray(status=[DiagnosticStatus(name="x")])
    assert WireReader(DiagnosticArray).read(serialize_message(health)) == health


def test_a_truncated_message_is_refused_by_rclpy():
    data = serialize_message(JointState(name=["a"], position=[1.0]))
    reader = WireReader(JointState)
    reader.read(data)
    with pytest.raises(Exception, match=r".+"):
        reader.read(data[:20])
