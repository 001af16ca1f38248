"""Replace the keys of a role: after a theft, a loss, or when a person leaves."""

from collections.abc import Collection, Sequence
from pathlib import Path

from securesystemslib.signer import Signer

from monitor.errors import UsageError
from train.release.keys import Keys
from train.release.repository import Repository
from train.release.roles import ONLINE, ROLES

_RETIRING = "x-stethos-retiring"  # a key of the root that TUF keeps and signs: ids of keys by role, while they are being replaced


def rotate(
    repository: Repository,
    name: str,
    *,
    out: Path | None = None,
    replaced: Sequence[str] = (),
    hardware: str | None = None,
) -> list[Signer]:
    """Replace the keys of a role whose ids begin with these texts, by default all, and sign anew what they had signed.

    A new key is written to the folder `out`, by default to that of the key that it replaces. `hardware` is the address of a key
    that takes the place of a single one. Returns the new keys: none if this completes a rotation that was interrupted.

    The repository is valid after each step. A new root is signed by its old and its new keys, so the keys that are left of the
    old root must reach its threshold. For another role of the root, a root with old and new keys comes first, then what they
    sign, then a root without the old keys.
    """
    role = repository.role(name)
    if unknown := [text for text in replaced if not any(one.startswith(text) for one in role.keyids)]:
        raise UsageError(f"--key must be a key of {name} ({', '.join(one[:16] for one in role.keyids)}), got {unknown[0]}")
    retiring = [one for one in role.keyids if one in _retiring(repository).get(name, [])]
    chosen = [one for one in role.keyids if not replaced or any(one.startswith(text) for text in replaced)]
    fresh = [] if retiring and not replaced else [one for one in chosen if one not in retiring]
    if hardware is not None and len(fresh) > 1:
        raise UsageError(f"--hsm replaces one key: --key must name one of {', '.join(one[:16] for one in fresh)}")
    _check_signers(repository, name, {*fresh, *retiring}, n_new=len(fresh))  # before anything is written
    new = _new_keys(repository, name, fresh, out=out, hardware=hardware)
    old = [one for one in (*fresh, *retiring) if one not in {signer.public_key.keyid for signer in new}]
    delegator = repository.root.signed if name in ROLES else repository.targets.signed
    for signer in new:
        delegator.add_key(signer.public_key, name)
    if name in ROLES and name != "root":
        repository.root.signed.unrecognized_fields[_RETIRING] = _retiring(repository) | {name: old}
        repository.save_root()
        if name not in ONLINE:
            repository.save(name)
        repository.commit()
        repository.root.signed.unrecognized_fields[_RETIRING] = {
            one: ids for one, ids in _retiring(repository).items() if one != name
        }
    for key_id in old:
        delegator.revoke_key(key_id, name)
    if name in ROLES:
        repository.save_root()
    else:
        repository.save("targets")
        repository.save(name)
        repository.commit()
    return new


def _retiring(repository: Repository) -> dict[str, list[str]]:
    found: dict[str, list[str]] = repository.root.signed.unrecognized_fields.get(_RETIRING, {})
    return found


def _check_signers(repository: Repository, name: str, old: Collection[str], *, n_new: int) -> None:
    """KeyProblem if a key is missing: of the roles that sign the change, or of those that stay in this role."""
    keys, role, public = repository.keys, repository.role(name), repository.public_keys(name)
    if name == "root":
        repository.retired = keys.signers(name, role.keyids, public, threshold=role.threshold)
    else:
        repository.check_signers(*(one for one in ("root" if name in ROLES else "targets", *ONLINE) if one != name))
    keys.signers(name, [one for one in role.keyids if one not in old], public, threshold=role.threshold - n_new)


def _new_keys(
    repository: Repository, name: str, replaced: Sequence[str], *, out: Path | None, hardware: str | None
) -> list[Signer]:
    """A new key for each of these, which the repository uses from now on."""
    keys = repository.keys
    places = {one: out or (keys.folders[0] if path is None else path.parent) for one, path in keys.places(name, replaced).items()}
    repository.keys = Keys([*keys.folders, *places.values()], passphrase=keys.passphrase)
    if hardware is not None:
        return [keys.import_hardware(name, folder, hardware) for folder in places.values()]
    return [keys.create(name, folder, encrypts=name not in ONLINE) for folder in places.values()]
