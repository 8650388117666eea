# Everything sets itself up: the first target that runs creates .venv and installs requirements.txt.
# Windows, Colab or no make: see README.md.
PYTHON ?= python3
ENCODER ?= vjepa2-demo
BIN = .venv/bin
READY = .venv/ready

.PHONY: figures test lint notebook execute clips page results
figures: $(READY)  ## the figures of the README
	$(BIN)/python -m vjepa_utils figures --encoder $(ENCODER)

test: $(READY)  ## the tests, the executed notebook among them
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -rs -n 2 --dist worksteal tests

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

notebook: $(READY)
	$(BIN)/jupyter lab Exploration.ipynb

execute: $(READY)  ## Exploration.ipynb anew, with its outputs
	$(BIN)/python execute_notebook.py

clips: $(READY)  ## render videos/ anew
	$(BIN)/python -m demo.render.clips

page: $(READY)  ## docs/kitesurfing.html and docs/monkey.html, to look around in
	for clip in kitesurfing monkey; do $(BIN)/python -m vjepa_utils explore videos/$$clip.mp4 \
		--every 2 --encoders $(ENCODER) dino-demo --masks block future -o docs/$$clip.html || exit 1; done

# of the comparison; further ones as LABEL=FOLDER, or --teacher FOLDER
COMPARE ?= vjepa2-demo dino-demo
results: $(READY)  ## every table of docs/results.md, measured anew
	for benchmark in stock_positions stock_heads hidden_tokens "compare_encoders --jobs 2 $(COMPARE)" \
		"compare_encoders --layers vjepa2-demo" "point_tracking --scenes 20" motion_probes \
		"finer_maps --scenes 8" stability layer_probes; do \
		$(BIN)/python -m benchmarks.$$benchmark --into docs/results.md || exit 1; done

$(READY): requirements.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'error: Python 3.11 or later is needed; set PYTHON=python3.11')"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $(READY)
