# bnfold in a container, writing as the user who calls it:
# `docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/models" bnfold fold model.onnx -o folded.onnx`
FROM python:3.11-slim
WORKDIR /opt/bnfold
COPY pyproject.toml README.md LICENSE ./
COPY folding folding
COPY service service
RUN pip install --no-cache-dir '.[service]'
RUN useradd --create-home bnfold
USER bnfold
WORKDIR /models
ENTRYPOINT ["bnfold"]
CMD ["--help"]
