"""The sentinel's own picture of the robot and its surroundings: what comes how close to what, at given joints.

It is the MuJoCo model that the spec names, compiled anew and used for geometry alone. Two things differ from a model
that is simulated. Boxes become meshes of eight corners, for MuJoCo's own box-box routine leaves pairs out that are
up to 3 mm apart, and tells others up to 6 mm too far apart (measured on the SO-101; 33 of 2381 pairs within 20 mm
left out); its general convex routine is exact to 2 nm there. And static links of a URDF stay bodies of their own, so
that what touches can be told by name.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import mujoco
import numpy as np
import numpy.typing as npt

from optr.errors import SpecError
from optr.model import actuators_of, compile_model, is_position_servo, names_of
from optr.sentinel.rule import Seen
from optr.spec import Spec
from optr.spec.values import Vector

_SAG_ROWS = 4
_POSE = ("x", "y", "z", "qx", "qy", "qz", "qw")
_SLIDE = int(mujoco.mjtJoint.mjJNT_SLIDE)
_FREE = int(mujoco.mjtJoint.mjJNT_FREE)
_MESH = int(mujoco.mjtGeom.mjGEOM_MESH)


@dataclass(frozen=True)
class Pair:
    """Two bodies that the commanded joints can bring together.

    Attributes:
        bodies: Their ids in the model, the one nearer to the base first.
        of_robot: Whether both belong to the robot.
        reach: How far a point of the one can move against the other, per change of each joint of the action
            [m/rad or m/m], shape (n,).
    """

    bodies: tuple[int, int]
    of_robot: bool
    reach: Vector


class BodyModel:
    """Forward kinematics and distances of a spec's robot. Not thread-safe.

    A pair of bodies counts if the commanded joints move one against the other and the pose of both is known. So
    neither bodies with a free joint count, such as a cube to be grasped, nor what hangs on a passive joint that is no
    part of the robot, such as a drawer; and of a robot that floats only what it could do to itself. Passive joints of
    the robot stay where the model has them at rest. As in the simulation, geoms collide by their contype and
    conaffinity, and excluded pairs do not; a body and the one it is jointed to never count, even if that is fixed to
    the world.

    Attributes:
        model: The compiled model.
        data: Its state.
        pairs: Body pairs that count.
        worst: The largest reach of all pairs, joint by joint, shape (n,).
        allowed: Names of what is so close at the home pose that it never counts, and the distance there [m].
        placed: Keys of the features that say where an obstacle is, with its mocap id.
    """

    def __init__(self, spec: Spec, margin: float = 0.0) -> None:
        """Compile the model.

        Args:
            spec: Names model and joints.
            margin: What is closer than this [m] at the home pose never counts.

        Raises:
            ModelError: If the spec names no model, or a broken one.
            SpecError: If it names a joint that the model lacks.
        """
        self.spec = spec
        model = self.model = compile_model(spec, edit=_make_exact)
        self.data = mujoco.MjData(model)
        model.opt.enableflags |= int(mujoco.mjtEnableBit.mjENBL_OVERRIDE)
        model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_MULTICCD)
        self._joints = [int(model.joint(n).id) for n in spec.action.names]
        self._qpos = model.jnt_qposadr[self._joints]
        self._bodies = names_of(model, mujoco.mjtObj.mjOBJ_BODY, model.nbody)
        self._geoms = names_of(model, mujoco.mjtObj.mjOBJ_GEOM, model.ngeom)
        self._base = self._frame(spec.base_frame)
        self.placed = self._find_placed()
        self._upstream = _upstream(model)
        self._give, self._dof = self._servos(), model.jnt_dofadr[self._joints]
        self._torque = np.zeros(model.nv)
        self.set_joints(spec.home_vector())
        self.pairs, of_bodies = self._find_pairs()
        self._pair_of = self._by_geom(of_bodies)
        self.worst = np.max([p.reach for p in self.pairs], axis=0, initial=0.0) * np.ones(len(self._joints))
        self.allowed = self._allow(margin)

    # -- poses ---------------------------------------------------------------------------------------------------

    def set_joints(self, position: Vector) -> None:
        """Move to commanded joint positions, shape (n,), in the order of the action vector [rad or m]."""
        self.data.qpos[self._qpos] = position
        mujoco.mj_kinematics(self.model, self.data)

    def sagged(self, path: Vector) -> Vector:
        """Where position servos as the model has them let the arm hang, slow and without load.

        A servo of stiffness k holds a torque t at t / k from where it is told to be. The torque of gravity and
        springs is computed at every fourth row, and goes evenly in between: it changes little on the way.

        Args:
            path: Commanded positions, shape (m, n), [rad or m].

        Returns:
            Positions to expect, same shape; those commanded for joints whose servo optr had to invent.
        """
        if not self._give.any():
            return path
        model, data = self.model, self.data
        rows = [*range(0, len(path) - 1, _SAG_ROWS), len(path) - 1]
        sag = np.empty((len(rows), path.shape[1]))
        for i, row in enumerate(rows):
            self.set_joints(path[row])
            mujoco.mj_comPos(model, data)
            mujoco.mj_passive(model, data)
            mujoco.mj_rne(model, data, 0, self._torque)
            sag[i] = (data.qfrc_passive - self._torque).take(self._dof)
        sag *= self._give
        share = np.arange(len(path)) / _SAG_ROWS
        before = np.minimum(share.astype(np.intp), len(rows) - 2)
        length = np.diff(rows)[before]
        share = ((np.arange(len(path)) - before * _SAG_ROWS) / length)[:, None]
        return np.asarray(path + sag[before] + share * (sag[before + 1] - sag[before]))

    def _servos(self) -> Vector:
        """How far each joint of the action gives way [rad/(N m) or m/N], shape (n,); 0 if the model says nothing."""
        model = self.model
        out = np.zeros(len(self._joints))
        for i, (joint, name) in enumerate(zip(self._joints, self.spec.action.names, strict=True)):
            own = [a for a in actuators_of(model, joint) if is_position_servo(model, a)]
            if len(own) == 1 and model.actuator(own[0]).name != f"optr_{name}":
                out[i] = 1.0 / model.actuator_gainprm[own[0], 0]
        return out

    def place(self, seen: Mapping[str, Seen]) -> None:
        """Put obstacles where they were seen; others stay. Counts from the next `set_joints` on."""
        for key, mocap in self.placed.items():
            if key in seen:
                pose = np.asarray(seen[key].value, dtype=np.float64)
                if np.isfinite(pose).all():
                    rotation, origin = self._base
                    self.data.mocap_pos[mocap] = origin + rotation @ pose[:3]
                    mujoco.mju_mulQuat(self.data.mocap_quat[mocap], _quaternion(rotation), pose[[6, 3, 4, 5]])

    def point(self, name: str) -> tuple[int, Vector]:
        """A site or else a body by name: its body, and where it is in the world now [m], shape (3,).

        Raises:
            SpecError: If there is none.
        """
        sites = names_of(self.model, mujoco.mjtObj.mjOBJ_SITE, self.model.nsite)
        if name in sites:
            site = sites.index(name)
            return int(self.model.site_bodyid[site]), self.data.site_xpos[site]
        if name in self._bodies:
            body = self._bodies.index(name)
            return body, self.data.xpos[body]
        known = ", ".join(n for n in [*sites, *self._bodies[1:]] if n) or "none"
        raise SpecError(f"{self.spec.path}: no site or body {name!r} in the model; it has: {known}")

    def in_base(self, position: Vector) -> Vector:
        """From the world frame to the base frame [m], shape (3,)."""
        rotation, origin = self._base
        return np.asarray((position - origin) @ rotation)

    def _frame(self, name: str) -> tuple[Vector, Vector]:
        """Rotation, shape (3, 3), and origin, shape (3,), of a body in the world; of the world if there is none."""
        mujoco.mj_kinematics(self.model, self.data)
        if name not in self._bodies:
            return np.eye(3), np.zeros(3)
        body = self._bodies.index(name)
        return self.data.xmat[body].reshape(3, 3).copy(), self.data.xpos[body].copy()

    # -- distances -----------------------------------------------------------------------------------------------

    def near(self, within: float) -> list[tuple[float, int, int, int]]:
        """What is closer than `within` [m] at the joints set last.

        Returns:
            Distance [m], negative where they overlap; index into `pairs`; both geom ids, the smaller first.
        """
        self.model.opt.o_margin = within
        mujoco.mj_collision(self.model, self.data)
        if not self.data.ncon:
            return []
        contact, pair_of = self.data.contact, self._pair_of
        return [
            (distance, pair_of[a][b], a, b) if a < b else (distance, pair_of[a][b], b, a)
            for (a, b), distance in zip(contact.geom.tolist(), contact.dist.tolist(), strict=True)
            if pair_of[a][b] >= 0
        ]

    def name(self, geom: int) -> str:
        """Body of a geom; if that has no name or is the world, the geom itself."""
        body = int(self.model.geom_bodyid[geom])
        return (self._bodies[body] if body else "") or self._geoms[geom] or f"geom {geom}"

    def moved(self, geom: int) -> int:
        """Number of a geom's body if the action moves it, else 0; larger further out along a chain."""
        body = int(self.model.geom_bodyid[geom])
        return body if set(self._upstream[body]) & set(self._joints) else 0

    def reach(self, body: int, points: Vector, radius: float = 0.0) -> Vector:
        """How far points that are fixed to a body can move in the world, per change of each joint of the action.

        It holds at all joint positions: the way from a joint's axis to the point is no longer than the ways from
        anchor to anchor along the chain put end to end, and those do not change.

        Args:
            body: Id of the body.
            points: Where they are now, world frame [m], shape (k, 3).
            radius: Size of what they are centres of [m].

        Returns:
            Shape (n,), [m/rad], or 1 for slides; 0 for joints that do not move the body.
        """
        chain = self._upstream[body]
        out = np.zeros(len(self._joints))
        for column, joint in enumerate(self._joints):
            if joint not in chain:
                continue
            if self.model.jnt_type[joint] == _SLIDE:
                out[column] = 1.0
                continue
            here, axis, length = self.data.xanchor[joint], self.data.xaxis[joint], 0.0
            first = True
            for later in chain[chain.index(joint) + 1 :]:
                way = self.data.xanchor[later] - here
                length += float(np.linalg.norm(np.cross(axis, way) if first else way)) + self._travel(later)
                here, first = self.data.xanchor[later], False
            ways = np.asarray(points) - here
            out[column] = length + np.linalg.norm(np.cross(axis, ways) if first else ways, axis=1).max() + radius
        return out

    def _travel(self, joint: int) -> float:
        """How far a slide goes from where it is now [m]."""
        if self.model.jnt_type[joint] != _SLIDE or joint not in self._joints:
            return 0.0
        column = self._joints.index(joint)
        channel, now = self.spec.action.channels[column], float(self.data.qpos[self._qpos[column]])
        if channel.low is None or channel.high is None:
            raise SpecError(f"{self.spec.path}: action channel {channel.name!r} lacks low or high")
        return max(channel.high - now, now - channel.low)

    # -- what counts ---------------------------------------------------------------------------------------------

    def _find_placed(self) -> dict[str, int]:
        placed = {}
        for body, feature in self.spec.environment.items():
            if body in self._bodies and tuple(c.name for c in feature.channels) == _POSE:
                at = self._bodies.index(body)
                geoms = np.flatnonzero(self.model.geom_bodyid == at)
                if self.model.body_mocapid[at] >= 0 and _collides(self.model)[geoms].any():
                    placed[feature.key] = int(self.model.body_mocapid[at])
        return placed

    def _find_pairs(self) -> tuple[list[Pair], dict[tuple[int, int], int]]:
        model, chains = self.model, self._upstream
        solid = _collides(model)
        bodies = [b for b in range(model.nbody) if solid[model.geom_bodyid == b].any()]
        reach = {b: self._reach_of_body(b, solid) for b in bodies}
        unknown, robot = self._unknown(), self._robot()
        excluded = {(s >> 16, s & 0xFFFF) for s in model.exclude_signature.tolist()}
        pairs: list[Pair] = []
        index: dict[tuple[int, int], int] = {}
        for a, b in itertools.combinations(bodies, 2):
            between = set(chains[a]) ^ set(chains[b])
            if not between & set(self._joints) or between & unknown or self._jointed(a, b):
                continue
            if (a, b) in excluded or (b, a) in excluded:
                continue
            apart = np.array([j in between for j in self._joints])
            index[a, b] = index[b, a] = len(pairs)
            pairs.append(Pair((a, b), a in robot and b in robot, (reach[a] + reach[b]) * apart))
        return pairs, index

    def _reach_of_body(self, body: int, solid: npt.NDArray[np.bool_]) -> Vector:
        model, data = self.model, self.data
        out = np.zeros(len(self._joints))
        for geom in np.flatnonzero((model.geom_bodyid == body) & solid):
            centre, mesh = data.geom_xpos[geom], int(model.geom_dataid[geom])
            if model.geom_type[geom] == _MESH and mesh >= 0:
                start = model.mesh_vertadr[mesh]
                corners = model.mesh_vert[start : start + model.mesh_vertnum[mesh]]
                points, radius = centre + corners @ data.geom_xmat[geom].reshape(3, 3).T, 0.0
            else:
                points, radius = centre[None], float(model.geom_rbound[geom])
            out = np.maximum(out, self.reach(body, points, radius))
        return out

    def _unknown(self) -> set[int]:
        """Joints whose position nobody knows: free ones, and passive ones that do not hang on the robot."""
        chains, model = self._upstream, self.model
        known = set(self._joints)
        return {
            j
            for j in range(model.njnt)
            if j not in known
            and (model.jnt_type[j] == _FREE or not known & set(chains[int(model.jnt_bodyid[j])][: j + 1]))
        }

    def _robot(self) -> set[int]:
        """Bodies that the action moves, and those that they hang on, without the world."""
        model = self.model
        moved = [b for b in range(model.nbody) if set(self._upstream[b]) & set(self._joints)]
        robot = set(moved)
        for body in moved:
            while body := int(model.body_parentid[body]):
                robot.add(body)
        return robot | {b for b in range(1, model.nbody) if self._rigid(b) in {self._rigid(r) for r in robot} - {0}}

    def _rigid(self, body: int) -> int:
        return int(self.model.body_weldid[body])

    def _jointed(self, a: int, b: int) -> bool:
        """Whether only one joint axis or one set of joints lies between: parent and child, the world left out."""
        model = self.model
        for one, other in ((a, b), (b, a)):
            child = self._rigid(one)
            parent = int(model.body_parentid[child]) if child else 0
            if parent and other and self._rigid(parent) == self._rigid(other):
                return True
        return False

    def _by_geom(self, of_bodies: Mapping[tuple[int, int], int]) -> list[list[int]]:
        """Index into `pairs` for each two geoms, -1 where they do not count; silences geoms that never do."""
        body = self.model.geom_bodyid.tolist()
        rows = [[of_bodies.get((a, b), -1) for b in body] for a in body]
        for geom, row in enumerate(rows):
            if max(row, default=-1) < 0:
                self.model.geom_contype[geom] = self.model.geom_conaffinity[geom] = 0
        return rows

    def _allow(self, margin: float) -> tuple[tuple[str, str, float], ...]:
        found = []
        for distance, _, a, b in self.near(margin):
            self._pair_of[a][b] = self._pair_of[b][a] = -1
            found.append((self.name(a), self.name(b), distance))
        return tuple(found)


def _collides(model: mujoco.MjModel) -> npt.NDArray[np.bool_]:
    return np.asarray((model.geom_contype != 0) | (model.geom_conaffinity != 0))


def _upstream(model: mujoco.MjModel) -> list[list[int]]:
    """Joints that move each body, from the root outward."""
    chains: list[list[int]] = []
    for body in range(model.nbody):
        first, count = int(model.body_jntadr[body]), int(model.body_jntnum[body])
        above = chains[int(model.body_parentid[body])] if body else []
        chains.append([*above, *range(first, first + count)])
    return chains


def _quaternion(rotation: Vector) -> Vector:
    out = np.zeros(4)
    mujoco.mju_mat2Quat(out, rotation.ravel())
    return out


def _make_exact(parts: mujoco.MjSpec, plain: mujoco.MjModel) -> None:
    """Boxes become meshes; links of a URDF that do not move against the one before stay bodies."""
    parts.compiler.fusestatic = False
    corners = np.array(list(itertools.product((-1.0, 1.0), repeat=3)))
    boxes = [g for g in parts.geoms if g.type == mujoco.mjtGeom.mjGEOM_BOX]
    for count, geom in enumerate(boxes):
        geom.type = mujoco.mjtGeom.mjGEOM_MESH
        if geom.meshname:  # a box fitted to a mesh: the mesh itself
            continue
        size = plain.geom_size[geom.id]
        ends = np.array(geom.fromto)
        if np.isfinite(ends).all():
            geom.fromto = np.full(6, np.nan)
            geom.pos = (ends[:3] + ends[3:]) / 2
            turn = np.zeros(4)
            mujoco.mju_quatZ2Vec(turn, ends[3:] - ends[:3])
            geom.quat = turn
        mesh = parts.add_mesh(name=f"optr_box_{count}")
        mesh.uservert = (corners * size).ravel()
        geom.meshname = mesh.name
