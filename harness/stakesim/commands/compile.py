"""`stakesim compile`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from stakesim.commands.options import reports
from stakesim.commands.terminal import console, fail, finish, print_error, print_finding


@reports
def compile_contracts(
    write: Annotated[
        bool,
        typer.Option(
            "--write", help="Write the artifacts that ship with the library, and the backend's copy of EventStake."
        ),
    ] = False,
) -> None:
    """Compile the packaged contracts, and check that the committed artifacts match the sources."""
    for file, content in _artifact_files(write=write).items():
        text = json.dumps(content, indent=1) + "\n"
        if write:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        elif not file.exists() or file.read_text() != text:
            message = f"{file} is not what the sources compile to: run `stakesim compile --write`"
            print_error(message)
            print_finding("artifact", message)
            finish(ok=False)
    finish(ok=True)


def _artifact_files(*, write: bool) -> dict[Path, dict[str, Any]]:
    """Compiles, prints the size of each contract, and returns what each artifact file must contain."""
    from stakesim.evm import compiler
    from stakesim.paths import checkout
    from stakesim.project import current_project

    backend_copy = current_project().artifact
    if write and backend_copy is None and checkout() is None:
        fail(
            "there is nothing to write, as the artifacts that ship are the installed library's own: for a copy of "
            "EventStake in your project, name its file as `artifact` in [tool.stakesim]"
        )
    shipped = compiler.build_packaged_artifacts()
    for name, artifact in shipped["contracts"].items():
        if size := len(artifact["deployed_bytecode"]) // 2 - 1:
            console().print(f"{name:24} {size:6} bytes  {artifact['source']}")
    files = {compiler.PACKAGED_ARTIFACTS: shipped} if checkout() else {}
    if backend_copy:
        files[backend_copy] = compiler.build_production_artifact()
    return files
