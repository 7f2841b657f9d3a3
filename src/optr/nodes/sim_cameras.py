"""The cameras of the sim node, in a process of their own so that rendering never makes physics late.

Started by the sim node, which writes requests to its standard input (`FrameLink`) and reads one byte per finished
request from its standard output.
"""

from __future__ import annotations

import os
import sys
from array import array
from pathlib import Path
from typing import BinaryIO

import rclpy
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, Image

from optr.connectors.sim.render import CameraRig, FrameLink, load_model
from optr.ros.convert import time_to_msg
from optr.ros.qos import IMAGE_QOS
from optr.ros_environment import prepare
from optr.spec import Feature, load_spec


class SimCamerasNode(Node):
    """Publishes `camera/<name>/image_raw` and `camera/<name>/camera_info` for every image of a spec."""

    def __init__(self, name: str, rig: CameraRig, images: dict[str, Feature]) -> None:
        super().__init__(name, start_parameter_services=False, enable_rosout=False)
        self._rig = rig
        self._out = {}
        for camera, feature in images.items():
            info_topic = feature.topic.rpartition("/")[0] + "/camera_info"
            self._out[camera] = (
                self.create_publisher(Image, feature.topic, IMAGE_QOS),
                self.create_publisher(CameraInfo, info_topic, IMAGE_QOS),
                _image(feature),
                _info(feature, rig.focal_px(camera)),
            )

    def publish(self, stamp_ns: int, cameras: int) -> None:
        """Render and publish the cameras whose bits are set."""
        self._rig.refresh()
        for i, (camera, (images, infos, image, info)) in enumerate(self._out.items()):
            if cameras & (1 << i):
                stamp = time_to_msg(stamp_ns)
                image.header.stamp = info.header.stamp = stamp
                image.data = array("B", self._rig.render(camera).tobytes())
                images.publish(image)
                infos.publish(info)


def _image(feature: Feature) -> Image:
    height, width, depth = feature.shape
    image = Image(height=height, width=width, encoding="rgb8", is_bigendian=0, step=width * depth)
    image.header.frame_id = feature.frame
    return image


def _info(feature: Feature, focal: float) -> CameraInfo:
    height, width = feature.shape[:2]
    cx, cy = width / 2, height / 2
    info = CameraInfo(height=height, width=width, distortion_model="plumb_bob", d=[0.0] * 5)
    info.header.frame_id = feature.frame
    info.k = [focal, 0.0, cx, 0.0, focal, cy, 0.0, 0.0, 1.0]
    info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    info.p = [focal, 0.0, cx, 0.0, 0.0, focal, cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    return info


def serve(node: SimCamerasNode, rig: CameraRig, requests: BinaryIO, done: BinaryIO) -> None:
    """Answer requests until the other side closes."""
    link = FrameLink(rig.model)
    while True:
        request = requests.read(link.size)
        if len(request) < link.size:
            return
        node.publish(*link.unpack(request, rig.data))
        done.write(b".")
        done.flush()


def main() -> int:
    """Entry point: model file, spec file, node name, namespace; then ROS arguments."""
    model, spec, name, namespace = sys.argv[1:5]
    prepare()
    os.environ.setdefault("LP_NUM_THREADS", "1")
    done = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints, prints to stderr: stdout carries the answers
    images = dict(load_spec(spec).images)
    rig = CameraRig(load_model(Path(model)), images)
    arguments = ["--ros-args", "-r", f"__node:={name}", "-r", f"__ns:={namespace}", *sys.argv[5:]]
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    node = SimCamerasNode(name, rig, images)
    try:
        done.write(b"!")
        done.flush()
        serve(node, rig, sys.stdin.buffer, done)
    except (KeyboardInterrupt, BrokenPipeError):
        return 0
    finally:
        rig.close()
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
