# Saves a teacher's logits:
#     docker build -t mmtinyvit .
#     docker run --gpus all --ipc=host -v /data:/data -e AWS_ACCESS_KEY_ID -e AWS_SECRET_ACCESS_KEY \
#         mmtinyvit CONFIG CHECKPOINT --out URL
# --ipc=host, because workers send batches through shared memory, of which a container has 64 MB by default.
FROM python:3.11-slim
WORKDIR /mmtinyvit
RUN apt-get update && apt-get install --yes --no-install-recommends gcc g++ && rm -rf /var/lib/apt/lists/*
COPY requirements requirements
RUN pip install --no-cache-dir -r requirements/torch.txt \
    && pip install --no-cache-dir -r requirements/runtime.txt -c requirements/constraints.txt -r requirements/onedl.txt \
    && pip install --no-cache-dir -r requirements/remote.txt -r requirements/ray.txt \
    && sh requirements/headless_opencv.sh python
COPY setup.py pyproject.toml README.md model-index.yml ./
COPY mmtinyvit mmtinyvit
COPY configs configs
COPY tools tools
COPY projects projects
RUN pip install --no-cache-dir --no-deps --editable .
ENTRYPOINT ["python", "tools/save_logits.py"]
