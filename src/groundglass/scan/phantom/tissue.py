"""From shapes to Hounsfield units: what each organ weighs on the scale, and the scanner's blur and noise."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from groundglass.scan.phantom.anatomy import LEFT, RIGHT, SIDES, Build, Chest, oblique_fissure
from groundglass.scan.phantom.geometry import Field, Frame, along, ellipsoid, texture
from groundglass.scan.phantom.placing import Opacity
from groundglass.scan.phantom.skeleton import paint_skeleton
from groundglass.scan.phantom.vessels import Trees

AIR_HU, SKIN_HU, FAT_HU, MUSCLE_HU = -1000.0, 10.0, -102.0, 48.0
BLOOD_HU, HEART_HU, GULLET_HU, WALL_HU = 44.0, 40.0, 32.0, 20.0
LIVER_HU, SPLEEN_HU, STOMACH_HU = 58.0, 48.0, 18.0
BRONCHUS_HU, TABLE_HU, FISSURE_HU = -960.0, -180.0, 130.0
GRAVITY_HU = 38.0
"""How much denser the lung at the back is than in its middle, the patient lying on the back."""
HU_RANGE = (-1024.0, 3071.0)
"""What a CT stores in 12 bits."""


def paint_body(frame: Frame, chest: Chest, build: Build, rng: np.random.Generator) -> Field:
    """Everything but the lungs, in HU, float32."""
    volume = np.full(frame.shape, np.float32(AIR_HU))
    _paint_table(volume, frame)
    lumps = texture(rng, frame, 14)
    np.copyto(volume, np.float32(SKIN_HU), where=chest.body < 0)
    np.copyto(volume, FAT_HU + 5 * lumps, where=chest.body < -2)
    muscle = _muscle(frame, chest, build, lumps)
    np.copyto(volume, MUSCLE_HU + 4 * lumps, where=muscle)
    if build.breast:
        _paint_glands(volume, frame, chest, lumps)
    np.copyto(volume, FAT_HU + 6 * lumps, where=(chest.mediastinum < 0) & (chest.cavity < 0))
    _paint_abdomen(volume, frame, chest, lumps)
    np.copyto(volume, HEART_HU + 3 * lumps, where=chest.heart < -2.5 - np.maximum(1.5 * lumps, 0))
    np.copyto(volume, np.float32(WALL_HU), where=chest.airways < 1.2)
    np.copyto(volume, np.float32(GULLET_HU), where=chest.gullet < 0)
    np.copyto(volume, np.float32(BLOOD_HU), where=chest.blood < 0)
    paint_skeleton(volume, frame, chest, build.bone)
    np.copyto(volume, np.float32(AIR_HU + 10), where=chest.airways < 0)
    return volume


def paint_lungs(
    volume: Field,
    frame: Frame,
    lungs: NDArray[np.uint8],
    build: Build,
    trees: Trees,
    opacities: list[Opacity],
    rng: np.random.Generator,
) -> None:
    """Paint lung tissue, lesions, vessels and bronchi into ``volume`` where ``lungs`` is set."""
    tissue = build.lung_hu + np.float32(GRAVITY_HU / 80) * frame.y + 9 * texture(rng, frame, 16)
    for side in SIDES:
        line = np.exp(-((oblique_fissure(frame, side) / np.float32(0.9)) ** 2))
        tissue += np.where(lungs == side, np.float32(FISSURE_HU) * line, 0)
    pixel = np.float32(min(frame.spacing[1:]))
    vessels = np.clip(0.5 - trees.vessels / pixel, 0, 1)
    walls = np.clip(0.5 - trees.walls / pixel, 0, 1)
    for opacity in opacities:
        part = tissue[opacity.box]
        part += (np.float32(opacity.density_hu) - part) * opacity.share
        if opacity.empties:
            vessels[opacity.box] *= 1 - opacity.share
            walls[opacity.box] *= 1 - opacity.share
    # Denser than blood, a lesion hides its vessels.
    tissue += np.maximum(BLOOD_HU - tissue, 0) * vessels
    tissue += np.maximum(WALL_HU - tissue, 0) * walls
    tissue += (BRONCHUS_HU - tissue) * np.clip(0.5 - trees.air / pixel, 0, 1)
    np.copyto(volume, tissue, where=lungs > 0)


def scan_volume(
    volume: Field,
    spacing: tuple[float, float, float],
    psf_mm: float,
    noise_hu: float,
    rng: np.random.Generator,
) -> Field:
    """What a scanner makes of the true densities: blurred, with the grain of filtered back-projection.

    Parameters
    ----------
    psf_mm
        Standard deviation of the Gaussian point spread, in mm.
    noise_hu
        Standard deviation of the noise, in HU. The noise is white noise with its coarse and its finest parts
        taken out within each slice, as the reconstruction's ramp filter and kernel do.

    Returns
    -------
    float32 in whole HU, clipped to what 12 bits hold.
    """
    seen = ndimage.gaussian_filter(volume, [psf_mm / step for step in spacing], mode="nearest")
    if noise_hu:
        noise = rng.standard_normal(volume.shape, dtype=np.float32)
        fine, coarse = ([0, *(width / step for step in spacing[1:])] for width in (0.7, 2.1))
        noise = ndimage.gaussian_filter(noise, fine) - ndimage.gaussian_filter(noise, coarse)
        seen += noise * np.float32(noise_hu / noise.std())
    return np.clip(np.rint(seen), *HU_RANGE, dtype=np.float32)


def _muscle(frame: Frame, chest: Chest, build: Build, lumps: Field) -> NDArray[np.bool_]:
    """Muscle around the rib cage: pectorals, shoulder and back, with planes of fat between the layers."""
    out, y, wall = np.abs(frame.x), frame.y, chest.cavity
    high = along(frame.z, (-60, 40, 90), (0, 1, 1.2))
    shoulder = along(frame.z, (-90, 20, 80, 120), (0.3, 1, 1.5, 2.6))
    breast_muscle = np.exp(-(((out - 62) / 38) ** 2)) * (y < 0) * high
    blade = np.exp(-(((out - 105) / 45) ** 2)) * np.clip((y + 20) / 40, 0, 1) * shoulder
    back = np.exp(-(((out - 26) / 24) ** 2)) * (y > 0)
    thickness = 13 + 14 * breast_muscle + 20 * blade + 24 * back + lumps
    muscle = (wall < thickness) & (chest.body < -np.float32(4 + 0.35 * build.fat) - lumps)
    first = np.abs(wall - 14.5 - 0.8 * lumps) < 0.5 + 0.9 * np.clip(lumps + 0.6, 0, 1)
    second = np.abs(wall - 28 - 2 * lumps) < 0.5 + np.clip(lumps + 0.3, 0, 1)
    return muscle & ~(first & (out > 30)) & ~(second & (out > 20))


def _paint_glands(volume: Field, frame: Frame, chest: Chest, lumps: Field) -> None:
    for x in (-72.0, 72.0):
        gland = ellipsoid(frame.z, frame.y, frame.x, (-14, -112, x), (32, 20, 30)) + 5 * lumps
        np.copyto(volume, np.float32(20), where=(gland < 0) & (chest.body < -6) & (chest.cavity > 18))


def _paint_abdomen(volume: Field, frame: Frame, chest: Chest, lumps: Field) -> None:
    """Below the diaphragm: liver on the right, stomach with its bubble of air and spleen on the left, fat."""
    z, y, x = frame.z, frame.y, frame.x
    inside = chest.cavity < 0
    right, left = chest.domes[RIGHT], chest.domes[LEFT]
    below = np.where(x < 0, right, left)
    np.copyto(volume, np.float32(MUSCLE_HU), where=inside & (below < 1))
    np.copyto(volume, FAT_HU + 6 * lumps, where=inside & (below < -2.5))
    room = inside & (below < -2.5)
    liver = np.where(x < 0, y - 62, np.maximum(y + 22, x - 62))
    liver = np.maximum(liver, 16 - np.hypot(x - 8, y - 36))
    np.copyto(volume, LIVER_HU + 3 * lumps, where=room & (liver < 0))
    stomach = ellipsoid(z, y, x, (-118, -18, 62), (46, 44, 42))
    spleen = ellipsoid(z, y, x, (-118, 40, 84), (46, 30, 38))
    np.copyto(volume, np.float32(SPLEEN_HU), where=room & (spleen < 0) & (x > 0))
    np.copyto(volume, np.float32(MUSCLE_HU), where=room & (stomach < 0) & (x > 0))
    np.copyto(volume, np.float32(STOMACH_HU), where=room & (stomach < -3) & (x > 0))
    np.copyto(volume, np.float32(AIR_HU + 20), where=room & (stomach < -3) & (x > 0) & (y < -34))


def _paint_table(volume: Field, frame: Frame) -> None:
    """The curved couch: a thin shell with foam inside."""
    sag = frame.y - np.float32(133) + (frame.x / 38) ** 2
    shell = np.abs(np.abs(sag - 12) - 12) < 1.2
    np.copyto(volume, np.float32(-960), where=(np.abs(sag - 12) < 12))
    np.copyto(volume, np.float32(TABLE_HU), where=shell)
