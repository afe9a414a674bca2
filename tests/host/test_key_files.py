"""Key files: only the owner may read one, it is written whole or not at all, and errors are plain."""

import os
import stat
from pathlib import Path

import platformdirs
import pytest
from tests.common.test_keys import KEY, TOKEN, reveals

from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.keys import Key
from gradfec_host import key_files
from gradfec_host.key_files import NamedKey, already_there, find_key, key_path, parse_key, read_key, read_keys
from gradfec_host.key_files import write_key as write

OTHER = Key(b"o" * 32)


def a_file(path, content, mode=0o600):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return path


def given_to_another(path, monkeypatch):
    """Make a file be another user's, as far as this one may."""
    if os.geteuid() == 0:
        os.chown(path, 54321, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 54321)


# --- reading ---


def test_a_key_that_was_written_is_read(tmp_path):
    write(tmp_path / "key", KEY)
    assert read_key(tmp_path / "key") == KEY


@pytest.mark.parametrize(
    "content",
    [TOKEN, TOKEN + "\n", f"# a comment\n\n  {TOKEN}\t\r\n# another", TOKEN.upper(), "\ufeff" + TOKEN, f"#é\n{TOKEN}"],
)
def test_a_key_file_is_one_token_with_comments_and_blank_lines(tmp_path, content):
    assert read_key(a_file(tmp_path / "key", content)) == KEY


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "is empty"),
        ("\n \n# only a comment\n", "is empty"),
        (TOKEN[:-1], "mistyped"),
        (TOKEN[:-1] + "b", "mistyped"),
        ("swordfish", "not a gradfec key"),
        (f"{TOKEN}\n{OTHER.token}", "2 lines that are not comments"),
        (b"\xff\xfe\x00" * 30, "not a gradfec key"),
        ("#" * 4097, "more than 4096 bytes"),
    ],
)
def test_a_file_that_holds_no_key_is_named_with_the_reason_and_without_its_content(tmp_path, content, reason):
    path = a_file(tmp_path / "key", content)
    with pytest.raises(GradfecError, match=reason) as caught:
        read_key(path)
    assert str(path) in str(caught.value)
    assert TOKEN[9:30] not in str(caught.value)
    assert "swordfish" not in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o620, 0o604, 0o602, 0o644, 0o660, 0o666, 0o777, 0o440])
def test_a_file_that_others_may_read_or_write_is_refused_with_the_remedy(tmp_path, mode):
    path = a_file(tmp_path / "my key", TOKEN, mode)
    with pytest.raises(GradfecError, match=r"users other than its owner have access .* run `chmod 600 '.*my key'`"):
        read_key(path)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_file_that_its_owner_alone_may_read_is_accepted(tmp_path, mode):
    assert read_key(a_file(tmp_path / "key", TOKEN, mode)) == KEY


def test_another_users_file_is_refused(tmp_path, monkeypatch):
    path = a_file(tmp_path / "key", TOKEN)
    given_to_another(path, monkeypatch)
    with pytest.raises(
        GradfecError, match=r"belongs to user .* neither to you nor to root: if you trust it, run `chown"
    ):
        read_key(path)


def test_roots_file_is_accepted(tmp_path, monkeypatch):
    path = a_file(tmp_path / "key", TOKEN)
    found = os.stat_result((stat.S_IFREG | 0o400, 1, 1, 1, 0, 0, 1, 0, 0, 0))
    monkeypatch.setattr(os, "fstat", lambda _: found)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert read_key(path) == KEY


def test_where_there_are_no_users_no_rights_are_checked(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "geteuid")
    assert read_key(a_file(tmp_path / "key", TOKEN, 0o644)) == KEY


def test_a_directory_is_no_key(tmp_path):
    with pytest.raises(GradfecError, match="not a regular file, so it cannot hold a key"):
        read_key(tmp_path)


def test_a_pipe_is_no_key_and_nobody_waits_for_it(tmp_path):
    os.mkfifo(tmp_path / "key", 0o600)
    with pytest.raises(GradfecError, match="not a regular file, so it cannot hold a key"):
        read_key(tmp_path / "key")


def test_an_unreadable_file_is_named(tmp_path, monkeypatch):
    path = a_file(tmp_path / "key", TOKEN, 0o000)
    if os.geteuid() == 0:  # whom no mode keeps out
        monkeypatch.setattr(os, "open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(GradfecError, match=r"cannot read the key .*key: Permission denied"):
        read_key(path)


def test_a_link_to_a_good_file_is_followed_and_what_it_leads_to_is_checked(tmp_path):
    target = a_file(tmp_path / "target", TOKEN)
    (tmp_path / "key").symlink_to(target)
    assert read_key(tmp_path / "key") == KEY
    target.chmod(0o644)
    with pytest.raises(GradfecError, match="chmod 600"):
        read_key(tmp_path / "key")


def test_a_pasted_key_is_read_like_a_file():
    assert parse_key(f"# from the cloud\n{TOKEN}\n".encode()) == KEY


# --- finding ---


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.delenv("GRADFEC_KEY_FILE", raising=False)
    monkeypatch.setenv("GRADFEC_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_the_key_is_looked_for_where_the_option_says_then_the_variable_then_home(home, tmp_path, monkeypatch):
    assert key_path() == home / "key"
    monkeypatch.setenv("GRADFEC_KEY_FILE", str(tmp_path / "named"))
    assert key_path() == tmp_path / "named"
    assert key_path(tmp_path / "given") == tmp_path / "given"


def test_an_empty_variable_is_as_good_as_none(home, monkeypatch):
    monkeypatch.setenv("GRADFEC_KEY_FILE", "")
    assert key_path() == home / "key"
    monkeypatch.setenv("GRADFEC_HOME", "")
    assert key_path() == platformdirs.user_config_path("gradfec", appauthor=False) / "key"


def test_the_users_home_may_be_written_as_a_tilde(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GRADFEC_KEY_FILE", "~/a key")
    assert key_path() == tmp_path / "a key"


def test_the_platforms_place_is_that_for_settings_not_for_caches(monkeypatch):
    monkeypatch.delenv("GRADFEC_HOME", raising=False)
    monkeypatch.delenv("GRADFEC_KEY_FILE", raising=False)
    assert key_path() == platformdirs.user_config_path("gradfec", appauthor=False) / "key"
    assert not key_path().is_relative_to(platformdirs.user_cache_path("gradfec", appauthor=False))


def test_the_key_that_is_found_is_read(home):
    write(home / "key", KEY)
    assert find_key() == KEY


def test_without_a_key_the_error_says_how_to_get_one(home):
    with pytest.raises(UsageError) as caught:
        find_key()
    for words in (str(home / "key"), "gradfec keygen`", "`gradfec keygen --show` there", "--paste` here", "--insecure"):
        assert words in str(caught.value)


def test_a_bad_key_is_not_passed_over_for_another(home, tmp_path):
    write(home / "key", KEY)
    with pytest.raises(GradfecError, match="mistyped"):
        find_key(a_file(tmp_path / "given", TOKEN[:-1]))


# --- writing ---


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_key_file_and_its_new_directory_are_their_owners_alone(tmp_path, umask):
    path = tmp_path / "new" / "key"
    before = os.umask(umask)
    try:
        write(path, KEY)
        assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode)) == (0o600, 0o700)
        write(path, OTHER, force=True)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_an_existing_directory_keeps_its_permissions(tmp_path):
    tmp_path.chmod(0o755)
    write(tmp_path / "key", KEY)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_the_secret_is_in_one_line_and_the_rest_are_comments(tmp_path):
    write(tmp_path / "key", KEY)
    lines = (tmp_path / "key").read_text("ascii").splitlines()
    assert [line for line in lines if not line.startswith("#")] == [TOKEN]
    assert any(KEY.id.hex() in line for line in lines)


@pytest.mark.parametrize("there", ["a key", "an empty file", "a dangling link", "a directory"])
def test_an_existing_file_is_not_overwritten(tmp_path, there):
    path = tmp_path / "key"
    match there:
        case "a key":
            write(path, OTHER)
        case "an empty file":
            path.touch()
        case "a dangling link":
            path.symlink_to(tmp_path / "nothing")
        case "a directory":
            path.mkdir()
    with pytest.raises(UsageError, match=r"there is a key at .* already.*--force replaces it"):
        write(path, KEY)
    assert not (tmp_path / "nothing").exists()
    if there == "a key":
        assert read_key(path) == OTHER


def test_force_replaces_a_key_and_leaves_nothing_else(tmp_path):
    write(tmp_path / "key", OTHER)
    write(tmp_path / "key", KEY, force=True)
    assert read_key(tmp_path / "key") == KEY
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_a_forced_key_takes_the_place_of_a_link_and_leaves_what_that_led_to(tmp_path):
    target = a_file(tmp_path / "target", "precious")
    (tmp_path / "key").symlink_to(target)
    write(tmp_path / "key", KEY, force=True)
    assert (target.read_text(), read_key(tmp_path / "key")) == ("precious", KEY)


def test_a_directory_is_not_replaced(tmp_path):
    (tmp_path / "key").mkdir()
    with pytest.raises(GradfecError, match="cannot write the key"):
        write(tmp_path / "key", KEY, force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize("force", [False, True])
def test_a_disk_that_is_full_leaves_the_old_key_or_none(tmp_path, monkeypatch, force):
    if force:
        write(tmp_path / "key", OTHER)

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(key_files.os, "fsync", fail)
    with pytest.raises(GradfecError, match=r"cannot write the key .*: No space left on device") as caught:
        write(tmp_path / "key", KEY, force=force)
    assert not reveals(str(caught.value), KEY)
    assert [path.name for path in tmp_path.iterdir()] == (["key"] if force else [])
    if force:
        assert read_key(tmp_path / "key") == OTHER


def test_a_key_cannot_be_put_into_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(GradfecError, match="cannot write the key"):
        write(tmp_path / "file" / "key", KEY)
    with pytest.raises(GradfecError, match="cannot write the key"):
        write(tmp_path / "file" / "folder" / "key", KEY)


def test_messages_about_an_existing_key_name_it():
    assert "/etc/gradfec/key" in str(already_there(Path("/etc/gradfec/key")))


# --- directories of keys ---


def test_a_directory_of_keys_gives_each_with_its_edges_name(tmp_path):
    write(tmp_path / "kitchen", KEY)
    write(tmp_path / "front door.txt", OTHER)
    assert read_keys(tmp_path) == {
        KEY.id: NamedKey("kitchen", KEY),
        OTHER.id: NamedKey("front door.txt", OTHER),
    }
    assert not reveals(repr(read_keys(tmp_path)), KEY)


def test_hidden_files_are_passed_over(tmp_path):
    write(tmp_path / "kitchen", KEY)
    (tmp_path / ".gitkeep").touch()
    (tmp_path / "..data").mkdir()
    assert [*read_keys(tmp_path)] == [KEY.id]


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [("", 0o600, "is empty"), (TOKEN[:-1], 0o600, "mistyped"), (TOKEN, 0o644, "chmod 600")],
)
def test_one_bad_file_is_an_error_that_names_it(tmp_path, content, mode, reason):
    write(tmp_path / "kitchen", OTHER)
    a_file(tmp_path / "door", content, mode)
    with pytest.raises(GradfecError, match=f"{tmp_path / 'door'}.*{reason}"):
        read_keys(tmp_path)


def test_a_directory_within_and_a_dangling_link_are_bad_files(tmp_path):
    (tmp_path / "within").mkdir()
    with pytest.raises(GradfecError, match="within is not a regular file"):
        read_keys(tmp_path)
    (tmp_path / "within").rmdir()
    (tmp_path / "gone").symlink_to(tmp_path / "nothing")
    with pytest.raises(GradfecError, match=r"cannot read the key .*gone: No such file"):
        read_keys(tmp_path)


def test_two_files_with_the_same_key_are_an_error_that_names_both(tmp_path):
    write(tmp_path / "a", KEY)
    write(tmp_path / "b", KEY)
    with pytest.raises(GradfecError, match=f"{tmp_path / 'a'} and {tmp_path / 'b'} hold the same key") as caught:
        read_keys(tmp_path)
    assert not reveals(str(caught.value), KEY)


@pytest.mark.parametrize("name", ["kit\nchen", "kit\x1bchen", os.fsdecode(b"kit\xffchen")])
def test_a_name_that_would_spoil_the_records_is_refused(tmp_path, name):
    write(tmp_path / name, KEY)
    with pytest.raises(GradfecError, match="must be printable"):
        read_keys(tmp_path)


def test_a_directory_without_keys_or_that_is_none_is_an_error(tmp_path):
    with pytest.raises(GradfecError, match="there are no keys in"):
        read_keys(tmp_path)
    for missing in (tmp_path / "missing", a_file(tmp_path / "file", TOKEN)):
        with pytest.raises(GradfecError, match="cannot read the directory of keys"):
            read_keys(missing)
