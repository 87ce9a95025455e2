"""Contract types of our own for import-linter: allow-lists, where its own are deny-lists. ``setup.cfg`` holds the lists.

A deny-list has a hole for each module that is written after it. Here what is not named is refused: a module that
imports a library it does not own, a library without an owner, and a name that stands in a list for nothing.
"""

from __future__ import annotations

import sys

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output

__all__ = ["ImportsOnly", "Owners", "covers"]


def covers(names: set[str], module: str) -> bool:
    """Whether ``module`` is one of ``names`` or lies below one of them."""
    parts = module.split(".")
    return any(".".join(parts[:length]) in names for length in range(1, len(parts) + 1))


class _AllowList(Contract):
    """What both kinds say when they are broken."""

    def render_broken_contract(self, check: ContractCheck) -> None:
        for fault in check.metadata["faults"]:
            output.print_error(fault)
            output.new_line()

    def _own(self) -> set[str]:
        return set(self.session_options["root_packages"])

    def _modules(self, graph: ImportGraph) -> list[str]:
        return sorted(name for name in graph.modules if name.split(".")[0] in self._own())


class Owners(_AllowList):
    """Only its owners import a library, or a package of this house.

    Fields:
        owners: lines ``library <- owner owner …``. An owner is a module, which includes what lies below it. A line
            without owners says that nobody may. A library may also be a package of this house; what lies in it may
            import itself.
        everywhere: third-party libraries that any module may import.

    Broken by: an import by a module that is no owner; a third-party library in neither list; an owner that does not
    import what it owns; a line about something that nobody has ever heard of.
    """

    type_name = "owners"
    owners = fields.ListField(subfield=fields.StringField())
    everywhere = fields.SetField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: ARG002, FBT001 - import-linter's
        table = _table(self.owners)
        faults: list[str] = []
        used: dict[str, set[str]] = {library: set() for library in table}
        for module in self._modules(graph):
            for imported in sorted(graph.find_modules_directly_imported_by(module)):
                where = f"{module} (line {_lines(graph, module, imported)})"
                held = [library for library in table if covers({library}, imported)]
                for library in held:
                    if covers({library}, module):
                        continue
                    used[library].add(module)
                    if not covers(table[library], module):
                        owners = ", ".join(sorted(table[library])) or "nobody"
                        faults.append(f"{where} imports {imported}, which belongs to {owners}")
                if not held and self._is_third_party(imported) and not covers(self.everywhere, imported):
                    faults.append(f"{where} imports {imported}, which has no owner: name one in setup.cfg")
        for library, owners in table.items():
            faults += [
                f"{owner} is named as an owner of {library} and does not import it: take it off the list"
                for owner in sorted(owners)
                if not any(covers({owner}, module) for module in used[library])
            ]
        return ContractCheck(kept=not faults, metadata={"faults": faults})

    def _is_third_party(self, module: str) -> bool:
        top = module.split(".", maxsplit=1)[0]
        return top not in self._own() and top not in sys.stdlib_module_names


class ImportsOnly(_AllowList):
    """A module imports what is on its list, and nothing else.

    Fields:
        modules: whom the list binds; each includes what lies below it.
        may_import: modules of this house, of the standard library or of others; each includes what lies below it.
            ``standard library`` stands for all of that. The packages that a module lies in come with it unasked.

    Broken by: a direct import of anything else; a module that does not exist; an entry that none of them imports.
    """

    type_name = "imports_only"
    modules = fields.SetField(subfield=fields.StringField())
    may_import = fields.SetField(subfield=fields.StringField())

    STANDARD = "standard library"

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: ARG002, FBT001 - import-linter's
        faults = [f"{name}: there is no such module" for name in sorted(self.modules) if name not in graph.modules]
        needed: set[str] = set()
        for module in self._modules(graph):
            if not covers(self.modules, module):
                continue
            for imported in sorted(graph.find_modules_directly_imported_by(module)):
                if imported == "__future__" or covers(self.modules, imported) or covers({imported}, module):
                    continue
                allowed = {name for name in self.may_import if covers({name}, imported)}
                if self.STANDARD in self.may_import and imported.split(".")[0] in sys.stdlib_module_names:
                    allowed.add(self.STANDARD)
                needed |= allowed
                if not allowed:
                    line = _lines(graph, module, imported)
                    faults.append(f"{module} (line {line}) imports {imported}, which is not on its list")
        unused = sorted(self.may_import - needed)
        faults += [f"{name} is on the list and none of the modules imports it: take it off" for name in unused]
        return ContractCheck(kept=not faults, metadata={"faults": faults})


def _table(lines: list[str]) -> dict[str, set[str]]:
    """The owners of each library; a line without an arrow goes on with the one before."""
    table: dict[str, set[str]] = {}
    library = ""
    for line in lines:
        before, arrow, owners = line.rpartition("<-")
        if arrow:
            library = before.strip()
        if not library or (library in table and arrow):
            raise ValueError(f"{line!r}: write `library <- owner owner`, and each library once")
        table.setdefault(library, set()).update(owners.split())
    return table


def _lines(graph: ImportGraph, importer: str, imported: str) -> str:
    details = graph.get_import_details(importer=importer, imported=imported)
    return ", ".join(str(detail["line_number"]) for detail in details) or "?"
