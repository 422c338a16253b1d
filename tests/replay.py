"""pytest plugin: collects the JUnit files of finished runs and reports their tests again.

`make test` runs one pytest per interpreter, side by side; this gives the sum of them as
one pytest run, with each failure's text, and pytest's closing line.
"""

import xml.etree.ElementTree as ElementTree

import pytest


def pytest_collect_file(file_path, parent):
    if file_path.suffix == ".xml":
        return Run.from_parent(parent, path=file_path)


class Run(pytest.File):
    def collect(self):
        for case in ElementTree.parse(self.path).getroot().iter("testcase"):
            test = Test.from_parent(self, name=f"{case.get('classname')}::{case.get('name')}")
            test.case = case
            yield test


class Test(pytest.Item):
    def runtest(self):
        for outcome in self.case:
            if outcome.tag in ("failure", "error"):
                raise Replayed(outcome.text or outcome.get("message"))
            if outcome.tag == "skipped" and outcome.get("type") == "pytest.xfail":
                pytest.xfail(outcome.get("message"))
            if outcome.tag == "skipped":
                pytest.skip(outcome.get("message"))

    def repr_failure(self, excinfo):
        if excinfo.errisinstance(Replayed):
            return str(excinfo.value)
        return super().repr_failure(excinfo)

    def reportinfo(self):
        return self.path, None, f"{self.path.stem}: {self.name}"


class Replayed(Exception):
    pass
