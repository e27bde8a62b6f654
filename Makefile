# One command for each thing; every target makes the environment it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

export HF_HUB_OFFLINE ?= 1

.PHONY: help demo test fuzz soak kills growth postgresql families sdk-matrix check format lint types imports spelling parity docs clean \
	train-vae train-decoder train-text encode-clips train-transformer finish-transformers export-model \
	evaluate-model gallery

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 22

$(STAMP): pyproject.toml constraints.txt
	@echo "installing the versions of constraints.txt into $(VENV); the first time takes some minutes"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

demo: $(STAMP) ## serve the bundled model, make demo.mp4 through the OpenAI SDK, stop
	$(BIN)/python examples/demo.py

test: $(STAMP) ## the default test run, by two processes; a file stays with one of them
	$(BIN)/python -m pytest -n 2 --dist loadfile

sdk-matrix: $(STAMP) ## drive the SDKs of docs/clients.md, fetched from their registries (needs node and npm)
	$(BIN)/python -m pytest -m clients tests/e2e/clients

fuzz: $(STAMP) ## hostile and random requests by the thousand, to a quick server and to a real one
	$(BIN)/python -m pytest tests/api/test_conformance.py tests/api/test_hostile.py --fuzz-examples 100 --timeout 3600
	$(BIN)/python -m pytest -m slow tests/e2e/test_conformance.py --timeout 3600

postgresql: $(STAMP) ## the store in PostgreSQL, and a job that survives it (needs PostgreSQL's programs)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[postgresql]'
	$(BIN)/python -m pytest tests/contract/test_store.py tests/contract/test_launches.py tests/jobs/test_sql.py
	$(BIN)/python -m pytest -m slow tests/e2e/test_postgresql.py

soak: $(STAMP) ## two hundred mixed requests of all dialects at once against one server
	$(BIN)/python -m pytest -m slow tests/e2e/test_mixed_dialects.py --timeout 3600

kills: $(STAMP) ## kill -9 between every two writes of a server and its workers, and start them again
	$(BIN)/python -m pytest -m slow tests/e2e/test_kill_points.py

growth: $(STAMP) ## what a server and its worker hold after each of ten rounds of thirty tiny jobs of every fate
	$(BIN)/python benchmarks/growth.py $(ARGS)

check: lint types imports spelling ## everything that needs no running code

format: $(STAMP) ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(STAMP) ## ruff
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP) ## mypy --strict
	$(BIN)/mypy

imports: $(STAMP) ## the import contracts
	$(BIN)/lint-imports

spelling: $(STAMP) ## codespell
	$(BIN)/codespell

families: $(STAMP) ## every family and task over HTTP and on the command line, with worker processes
	$(BIN)/python -m pytest -p no:randomly -m slow tests/e2e/test_families.py

parity: $(STAMP) ## every family against its reference; writes docs/parity.md
	$(BIN)/python tests/parity_table.py

docs: $(STAMP) ## renew the pages that are made from code
	$(BIN)/python tests/families_table.py
	$(BIN)/python tests/client_matrix.py
	$(BIN)/python -m vitascope.cli.flag_docs > docs/flags.md

# ---- the bundled model; on a GPU add ARGS='--device cuda', to go on ARGS=--resume

train-vae: $(STAMP) ## train the bundled model's autoencoder
	$(BIN)/python -m training.vae $(ARGS)

train-decoder: $(STAMP) ## train the decoder alone further, for the same latents
	$(BIN)/python -m training.vae --decoder-only --init training/runs/vae/vae --out training/runs/decoder \
		--steps 15000 --hard 0.5 --crisp 1.2 --blur 0.08 --muon-rate 0.01 --adam-rate 0.0024 --seed 5 $(ARGS)

train-text: $(STAMP) ## train its text encoder
	$(BIN)/python -m training.text_encoder $(ARGS)

encode-clips: $(STAMP) ## encode clips for the transformer's training
	$(BIN)/python -m training.latents --clips 27136 $(ARGS)
	$(BIN)/python -m training.latents --pool rotate --first 65536 --clips 245760 --shard 4096 $(ARGS)
	$(BIN)/python -m training.latents --pool other --first 327680 --clips 4096 --shard 2048 $(ARGS)
	$(BIN)/python -m training.latents --pool pair --first 331776 --clips 32768 --shard 2048 $(ARGS)
	for size in 96x96x17 64x64x9 64x64x33; do \
		$(BIN)/python -m training.latents --clips 1536 --shard 256 --bucket $$size $(ARGS) || exit; done

train-transformer: $(STAMP) ## train its transformer
	$(BIN)/python -m training.transformer --compile $(ARGS)

finish-transformers: $(STAMP) ## go on from it with text alone, and with given frames alone
	for only in text frames; do \
		$(BIN)/python -m training.transformer --compile --start training/runs/transformer --only $$only \
			--out training/runs/transformer-$$only --steps 17200 --muon-rate 0.028 --adam-rate 0.0067 $(ARGS) || exit; done

export-model: $(STAMP) ## write the folder that ships
	$(BIN)/python -m training.export $(ARGS)

evaluate-model: $(STAMP) ## judge the shipped weights: the model card's table and contact sheets, clips
	$(BIN)/python -m training.evaluate --card docs/model-card.md $(ARGS)

gallery: $(STAMP) ## make the gallery of the docs with the bundled model
	$(BIN)/python -m training.gallery $(ARGS)

clean: ## remove the environment and what tools left behind
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .import_linter_cache build dist
