"""The images: one of each service, of what the manifests name, and in each no more than it is made of."""

import tomllib
from pathlib import Path

import yaml

import images

ROOT = Path(__file__).resolve().parents[2]


def test_each_service_that_a_cluster_runs_has_an_image():
    base = yaml.safe_load((ROOT / "k8s" / "base" / "kustomization.yaml").read_text())

    assert {image["name"] for image in base["images"]} == {
        f"brewline/{name}" for name in images.SERVICES if name != "sandbox"
    }


def test_what_the_dockerfile_takes_by_hand_is_what_the_packages_say():
    """The chassis is every service's but the sandbox's, and the only package of ours that is."""
    members = [ROOT / "sandbox", *(path.parent for path in (ROOT / "services").glob("*/pyproject.toml"))]
    ours = {path.parent.name for path in ROOT.glob("libs/*/pyproject.toml")} | {member.name for member in members}

    needed = {}
    for member in members:
        project = tomllib.loads((member / "pyproject.toml").read_text())["project"]
        needed[member.name] = ours & set(project["dependencies"])

    assert needed == {name: {"chassis"} for name in images.SERVICES} | {"sandbox": set()}


def test_the_dockerfile_and_make_images_know_the_same_base():
    assert f"ARG BASE_IMAGE={images.BASE_IMAGE}\n" in (ROOT / "Dockerfile").read_text()
