"""The SO-101 description: URDF, MJCF and robot files tell the same arm.

The oracle for the kinematics is a forward kinematics written here from the URDF standard alone (plain XML and numpy);
MuJoCo computes the other side from the MJCF.
"""

import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import mujoco
import numpy as np
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
URDF = ROOT / "urdf" / "so101.urdf"
MJCF = ROOT / "urdf" / "so101.xml"
SCENE = ROOT / "urdf" / "so101_tabletop.xml"
ROBOT = ROOT / "config" / "robots" / "so101.yaml"
TABLETOP = ROOT / "config" / "robots" / "so101_tabletop.yaml"

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
CAMERAS = ("front", "wrist")

# A camera of MuJoCo looks along -z with y up, an optical frame of ROS (REP-103) along z with y down.
OPTICAL_FROM_MUJOCO = np.diag([1.0, -1.0, -1.0])


def numbers(text: str) -> np.ndarray:
    return np.array([float(word) for word in text.split()])


def rotation_about(axis: np.ndarray, angle: float) -> np.ndarray:
    """Rodrigues' formula; `axis` of length one, `angle` in rad."""
    x, y, z = axis
    K = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + math.sin(angle) * K + (1.0 - math.cos(angle)) * K @ K


def rotation_of_rpy(rpy: np.ndarray) -> np.ndarray:
    """Roll, pitch, yaw about the fixed axes x, y, z, in this order (URDF standard)."""
    roll, pitch, yaw = rpy
    x, y, z = np.eye(3)
    return rotation_about(z, yaw) @ rotation_about(y, pitch) @ rotation_about(x, roll)


def transform_of(origin: ElementTree.Element | None) -> np.ndarray:
    T = np.eye(4)
    if origin is not None:
        T[:3, :3] = rotation_of_rpy(numbers(origin.get("rpy", "0 0 0")))
        T[:3, 3] = numbers(origin.get("xyz", "0 0 0"))
    return T


def urdf_poses(urdf: ElementTree.Element, q: dict[str, float]) -> dict[str, np.ndarray]:
    """Pose of every link in base_link, 4x4, at the joint positions `q` [rad]."""
    poses = {"base_link": np.eye(4)}
    waiting = list(urdf.findall("joint"))
    while waiting:
        ready = [joint for joint in waiting if joint.find("parent").get("link") in poses]
        assert ready, f"joints hang on no known link: {[joint.get('name') for joint in waiting]}"
        for joint in ready:
            T = poses[joint.find("parent").get("link")] @ transform_of(joint.find("origin"))
            if joint.get("type") == "revolute":
                turn = np.eye(4)
                turn[:3, :3] = rotation_about(numbers(joint.find("axis").get("xyz")), q[joint.get("name")])
                T = T @ turn
            poses[joint.find("child").get("link")] = T
            waiting.remove(joint)
    return poses


@pytest.fixture(scope="module")
def urdf() -> ElementTree.Element:
    return ElementTree.parse(URDF).getroot()


@pytest.fixture(scope="module")
def arm() -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_path(str(MJCF))


@pytest.fixture(scope="module")
def scene() -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_path(str(SCENE))


@pytest.fixture(scope="module")
def robot() -> dict:
    return yaml.safe_load(ROBOT.read_text())


def revolute(urdf: ElementTree.Element) -> list[ElementTree.Element]:
    return [joint for joint in urdf.findall("joint") if joint.get("type") == "revolute"]


def configurations(model: mujoco.MjModel) -> np.ndarray:
    """Both limits of every joint, zero, and 250 random ones [rad]."""
    low, high = model.jnt_range[: len(JOINTS)].T
    corners = [np.where(np.arange(len(JOINTS)) == i, end, 0.0) for i in range(len(JOINTS)) for end in (low, high)]
    random = np.random.default_rng(101).uniform(low, high, size=(250, len(JOINTS)))
    return np.vstack([np.zeros(len(JOINTS)), low, high, *corners, random])


def touching(model: mujoco.MjModel, data: mujoco.MjData) -> set[tuple[str, ...]]:
    """Names of the bodies that touch, without what stands on the table anyway."""
    pairs = set()
    for contact in data.contact:
        bodies = (model.body(model.geom_bodyid[geom]).name for geom in (contact.geom1, contact.geom2))
        pairs.add(tuple(sorted(bodies)))
    return pairs - {("cube", "world"), ("base_link", "world")}


@pytest.mark.parametrize("path", [MJCF, SCENE], ids=lambda path: path.stem)
def test_forward_kinematics_agree(urdf, path):
    model = mujoco.MjModel.from_xml_path(str(path))
    data = mujoco.MjData(model)
    for q in configurations(model):
        data.qpos[: len(JOINTS)] = q
        mujoco.mj_forward(model, data)
        poses = urdf_poses(urdf, dict(zip(JOINTS, q, strict=True)))
        seen = {}
        for link in poses:
            if link.endswith("_optical_frame"):
                camera = data.camera(link.removeprefix("camera_").removesuffix("_optical_frame"))
                seen[link] = camera.xpos, camera.xmat.reshape(3, 3) @ OPTICAL_FROM_MUJOCO
            elif link == "gripper_frame":
                seen[link] = data.site(link).xpos, data.site(link).xmat.reshape(3, 3)
            elif not link.startswith("camera_"):
                seen[link] = data.body(link).xpos, data.body(link).xmat.reshape(3, 3)
        assert len(seen) == len(JOINTS) + 2 + len(CAMERAS)
        for link, (position, rotation) in seen.items():
            np.testing.assert_allclose(position, poses[link][:3, 3], atol=1e-6, err_msg=link)
            np.testing.assert_allclose(rotation, poses[link][:3, :3], atol=1e-6, err_msg=link)


def test_arm_points_ahead_at_zero(urdf):
    tool = urdf_poses(urdf, dict.fromkeys(JOINTS, 0.0))["gripper_frame"]
    assert tool[0, 3] > 0.3 and abs(tool[1, 3]) < 2e-3
    np.testing.assert_allclose(tool[:3, 2], [1.0, 0.0, 0.0], atol=1e-6)  # approach straight ahead


def test_zero_pose_is_that_of_the_source(urdf):
    """Link origins at zero as the source model gives them (SO-ARM100, so101_new_calib.xml), 2.4 mm higher."""
    poses = urdf_poses(urdf, dict.fromkeys(JOINTS, 0.0))
    source = {
        "shoulder_link": (0.03884, 0.0, 0.0624),
        "upper_arm_link": (0.06923, -0.01828, 0.1166),
        "lower_arm_link": (0.09723, -0.01828, 0.22917),
        "wrist_link": (0.23213, -0.01828, 0.23437),
        "gripper_link": (0.29323, -0.00018, 0.23437),
        "moving_jaw_link": (0.31663, 0.01762, 0.25546),
    }
    for link, position in source.items():
        np.testing.assert_allclose(poses[link][:3, 3] - [0, 0, 0.0024], position, atol=1e-5, err_msg=link)


def test_joints_agree(urdf, arm, scene, robot):
    state = robot["features"]["observation.state"]["channels"]
    action = robot["features"]["action"]["channels"]
    assert tuple(joint.get("name") for joint in revolute(urdf)) == JOINTS
    for model in (arm, scene):
        assert tuple(model.joint(i).name for i in range(len(JOINTS))) == JOINTS
        assert tuple(model.actuator(i).name for i in range(model.nu)) == JOINTS
    assert tuple(channel["name"] for channel in state) == JOINTS
    assert tuple(channel["name"] for channel in action) == JOINTS
    for joint, measured, commanded in zip(revolute(urdf), state, action, strict=True):
        name, limit = joint.get("name"), joint.find("limit")
        bounds = [float(limit.get("lower")), float(limit.get("upper"))]
        np.testing.assert_allclose(arm.joint(name).range, bounds, atol=1e-9, err_msg=name)
        np.testing.assert_allclose(arm.actuator(name).ctrlrange, bounds, atol=1e-9, err_msg=name)
        np.testing.assert_allclose([measured["low"], measured["high"]], bounds, atol=1e-9, err_msg=name)
        np.testing.assert_allclose([commanded["low"], commanded["high"]], bounds, atol=1e-9, err_msg=name)
        assert arm.actuator(name).forcerange[1] == pytest.approx(float(limit.get("effort")))
        assert 0.0 < commanded["velocity"] < float(limit.get("velocity"))
        assert commanded["velocity"] / commanded["acceleration"] <= 0.12  # [s] from full speed to rest


def test_inertias_agree(urdf, arm):
    for link in urdf.findall("link"):
        inertial = link.find("inertial")
        if inertial is None:
            continue
        body, name = arm.body(link.get("name")), link.get("name")
        assert body.mass[0] == pytest.approx(float(inertial.find("mass").get("value"))), name
        np.testing.assert_allclose(body.ipos, numbers(inertial.find("origin").get("xyz")), atol=1e-9, err_msg=name)
        entry = {key: float(value) for key, value in inertial.find("inertia").items()}
        tensor = np.array([[entry["i" + "".join(sorted(a + b))] for b in "xyz"] for a in "xyz"])
        moments = np.linalg.eigvalsh(tensor)
        np.testing.assert_allclose(np.sort(body.inertia), moments, rtol=1e-4, err_msg=name)
        assert moments[0] > 0.0 and moments[0] + moments[1] > moments[2], f"no body has such an inertia: {name}"


def test_total_mass_is_that_of_a_small_arm(arm):
    assert 0.55 < arm.body_mass.sum() < 0.75  # [kg], six servos of 55 g and the prints


def test_shapes_are_primitives(urdf, arm):
    assert {shape.tag for geometry in urdf.iter("geometry") for shape in geometry} <= {"box", "cylinder", "sphere"}
    assert arm.nmesh == 0


def test_shapes_agree(urdf, arm):
    """Every collision shape of the URDF is one of the MJCF: same size, same place."""
    kinds = {"box": mujoco.mjtGeom.mjGEOM_BOX, "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER}
    for link in urdf.findall("link"):
        for use, wanted in (("visual", lambda geom: True), ("collision", lambda geom: geom.contype[0] > 0)):
            shapes = link.findall(use)
            body = mujoco.mj_name2id(arm, mujoco.mjtObj.mjOBJ_BODY, link.get("name"))
            geoms = [arm.geom(i) for i in np.flatnonzero(arm.geom_bodyid == body) if body >= 0]
            geoms = [geom for geom in geoms if wanted(geom)]
            assert len(shapes) == len(geoms), (link.get("name"), use)
            for shape, geom in zip(shapes, geoms, strict=True):
                T, (form,) = transform_of(shape.find("origin")), shape.find("geometry")
                rotation = np.empty(9)
                mujoco.mju_quat2Mat(rotation, geom.quat)
                size = (
                    numbers(form.get("size")) / 2
                    if form.tag == "box"
                    else [float(form.get("radius")), float(form.get("length")) / 2]
                )
                assert geom.type[0] == kinds[form.tag]
                np.testing.assert_allclose(geom.size[: len(size)], size, atol=1e-6)
                np.testing.assert_allclose(geom.pos, T[:3, 3], atol=1e-6)
                np.testing.assert_allclose(rotation.reshape(3, 3), T[:3, :3], atol=1e-6)


def test_home_is_the_same_everywhere(scene, robot):
    assert tuple(robot["home"]) == JOINTS
    key = scene.key("home")
    np.testing.assert_allclose(key.qpos[: len(JOINTS)], list(robot["home"].values()))
    np.testing.assert_allclose(key.ctrl, list(robot["home"].values()))


@pytest.mark.parametrize("name", ["home", "rest"])
def test_keyframe_is_free_of_contact_and_stays(scene, name):
    data = mujoco.MjData(scene)
    mujoco.mj_resetDataKeyframe(scene, data, scene.key(name).id)
    mujoco.mj_forward(scene, data)
    start = data.qpos.copy()
    assert not touching(scene, data)
    for _ in range(round(2.0 / scene.opt.timestep)):
        mujoco.mj_step(scene, data)
        assert not touching(scene, data)
    sag = data.qpos[: len(JOINTS)] - start[: len(JOINTS)]
    assert np.abs(sag).max() < 0.03, sag  # [rad]
    assert np.abs(data.qvel).max() < 5e-3
    np.testing.assert_allclose(data.body("cube").xpos, start[6:9], atol=1e-3)


def test_files_load_from_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (URDF, MJCF, SCENE):
        assert mujoco.MjModel.from_xml_path(str(path)).njnt >= len(JOINTS)


@pytest.mark.parametrize("path", [ROBOT, TABLETOP], ids=lambda path: path.stem)
def test_robot_file_names_what_exists(urdf, scene, path):
    content = yaml.safe_load(path.read_text())
    assert content["spec"] == 1 and content["name"] == path.stem
    for key in ("urdf", "mjcf", "scene", "extends"):
        if key in content:
            assert (path.parent / content[key]).is_file(), key
    links = {link.get("name") for link in urdf.findall("link")}
    assert {content[key] for key in ("base_frame", "tool_frame") if key in content} <= links
    for key, feature in content["features"].items():
        assert feature.get("frame", "base_link") in links
        kind, name = key.split(".")[-2:] if "." in key else (key, "")
        if kind == "images":
            assert scene.camera(name).id >= 0
        if kind == "environment":
            assert scene.body(name).id > 0
            assert [channel["name"] for channel in feature["channels"]] == ["x", "y", "z", "qx", "qy", "qz", "qw"]


def test_scene_bodies_are_what_tasks_rely_on(scene):
    assert scene.joint("cube_free").type[0] == mujoco.mjtJoint.mjJNT_FREE
    for name in ("bin", "target", "goal"):
        assert scene.body(name).mocapid[0] >= 0, name
    for name in ("target", "goal"):
        assert scene.geom(name).contype[0] == 0 and scene.geom(name).conaffinity[0] == 0, name
