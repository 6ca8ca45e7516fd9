"""Finds the manifest of a case: its own `manifest.yaml`, or one published in a package that is downloaded once and checked by its SHA-256.

Published manifests are not part of this tree: their licences are their own.
"""
import hashlib
import os
import pathlib
import subprocess
import sys
import zipfile

STORE = pathlib.Path(__file__).resolve().parent.parent.parent / ".scratch/parity-packages"


def manifest_of(folder, settings):
    if "package" not in settings:
        return folder / "manifest.yaml"
    wheel = package(settings["package"], settings["sha256"])
    target = STORE / settings["package"].replace("==", "-")
    with zipfile.ZipFile(wheel) as archive:
        inside = settings.get("manifest") or next(name for name in archive.namelist() if name.endswith("/manifest.yaml"))
        if not (target / inside).exists():
            archive.extractall(target)
    return target / inside


def package(requirement, sha256):
    """The wheel of a package, downloaded once. Anything but the pinned file is refused."""
    folder = STORE / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"{requirement.replace('==', '-')}.whl"
    if not wheel.exists():
        loading = folder / f"loading-{os.getpid()}"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-binary=:none:"]
        done = subprocess.run([*command, "--dest", str(loading), "--only-binary=:all:", requirement], capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"error: {requirement} cannot be downloaded from the Python package registry: {done.stderr.strip()[-400:]}")
        next(loading.glob("*.whl")).rename(wheel)
        loading.rmdir()
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != sha256:
        wheel.unlink()
        raise SystemExit(f"error: {requirement} is not the file that was pinned: its SHA-256 is {found}")
    return wheel
