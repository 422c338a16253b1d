# make demo    make .venv, install, run the demo; ARGS="--threads 4 FOLDER" goes to it
# make test    all tests with $(PYTHON) and every other supported interpreter found;
#              ONLY="3.15t 3.11" chooses among them, ARGS="-k incr" goes to pytest;
#              the race tests under ThreadSanitizer too where there is a python3.15t-tsan
# make lint    formatting and static checks          make format   apply the formatting
# make analyze clang-tidy, cppcheck and gcc's analyzer over src
# make mutants builds that are broken on purpose, each of which a checker must notice
# make bench   ours and the alternatives, the cases that have goals (5 minutes), with every kind of
#              interpreter; ONLY and ARGS, for benchmarks/suite.py, choose; BENCH=churn,
#              memory or growth is that program alone
# make bench-full  all cases, with PYTHON_GIL=1 too (hours)
# make instructions  what paths cost in instructions, against benchmarks/instructions.json;
#              ARGS=--update keeps what is counted
# make stress  the larger models, then race tests for $(MINUTES), to the first failure
# make soak    all torture tests with all interpreters in rotation for $(MINUTES), with a report;
#              ARGS=--list says which, ARGS="--only races,fuzz" chooses (tests/soak.py has more)
# make fuzz    the heap, then the Python API, from random bytes for $(MINUTES), and what was found before
# make coverage  which lines and branches of src the tests execute (an hour)
# make example-load  examples/session_server under wrk for a minute, beside dict + Lock
# make clean   remove what the others made

PYTHON ?= python3
ARGS ?=
MINUTES ?= 10
ONLY ?=
BENCH ?=
CLANG_FORMAT ?= $(firstword $(shell command -v clang-format-14) clang-format)

C_FILES = $(shell find src tests benchmarks qsbrcontainers -name '*.[ch]')

.PHONY: demo test lint analyze format example-load bench bench-full instructions stress soak mutants \
	fuzz coverage clean

# -P: not the sources in this folder, which are without the extension.
demo:
	@$(PYTHON) tests/venvs.py .venv demo $(PYTHON)
	@.venv/bin/python -P -m qsbrcontainers $(ARGS)

test:
	@$(PYTHON) tests/run_all.py $(if $(ONLY),--only "$(ONLY)") $(ARGS)

example-load:
	@$(PYTHON) tests/venvs.py .venv-example example $(PYTHON)
	@.venv-example/bin/python examples/session_server/load.py $(ARGS)

stress:
	@$(PYTHON) tests/venvs.py .venv-soak test $(PYTHON)
	@.venv-soak/bin/python tests/soak.py $(MINUTES) --models --first-failure \
		--only races,linearizability,finalization $(ARGS)

soak:
	@$(PYTHON) tests/venvs.py .venv-soak test $(PYTHON)
	@.venv-soak/bin/python tests/soak.py $(MINUTES) $(ARGS)

fuzz:
	@$(PYTHON) tests/venvs.py .venv-fuzz test $(PYTHON)
	@QC_FUZZ_SECONDS=$$(( $(MINUTES) * 60 )) .venv-fuzz/bin/python -m pytest tests/fuzz -s -o timeout=0 $(ARGS)

analyze:
	@$(PYTHON) tests/analyzed.py $(ARGS)

coverage:
	@$(PYTHON) tests/covered.py $(ARGS)

mutants:
	@$(PYTHON) tests/mutants.py $(ARGS)

ifeq ($(BENCH),)
bench:
	@$(PYTHON) benchmarks/everywhere.py $(if $(ONLY),--only "$(ONLY)") \
		--json build/bench.json --markdown build/bench.md $(ARGS)
else
bench:
	@$(PYTHON) tests/venvs.py .venv-bench demo $(PYTHON)
	@.venv-bench/bin/python -m pip install --quiet '.[peers]' || \
		echo "Some peers do not install with this interpreter: comparing without them."
	@for name in $(BENCH); do .venv-bench/bin/python benchmarks/$$name.py $(ARGS) || exit 1; done
endif

bench-full:
	@$(PYTHON) benchmarks/everywhere.py $(if $(ONLY),--only "$(ONLY)") --full \
		--json build/bench-full.json --markdown build/bench-full.md $(ARGS)

instructions:
	@$(PYTHON) tests/venvs.py .venv-bench demo $(PYTHON)
	@.venv-bench/bin/python benchmarks/instructions.py $(or $(ARGS),--check)

.venv-lint/installed: pyproject.toml
	@$(PYTHON) -m venv --clear .venv-lint
	@.venv-lint/bin/python -m pip install --quiet --disable-pip-version-check \
		"$$(sed -n 's/^lint = \["\(.*\)"\]$$/\1/p' pyproject.toml)"
	@touch $@

lint: .venv-lint/installed
	@.venv-lint/bin/ruff check .
	@.venv-lint/bin/ruff format --check .
	@$(CLANG_FORMAT) --dry-run --Werror $(C_FILES)

format: .venv-lint/installed
	@.venv-lint/bin/ruff check --fix-only --quiet .
	@.venv-lint/bin/ruff format .
	@$(CLANG_FORMAT) -i $(C_FILES)

clean:
	rm -rf build dist .venv .venv-* *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
