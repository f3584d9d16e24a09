# bnfold in a container: `docker run -v "$PWD:/models" bnfold fold /models/model.onnx -o /models/folded.onnx`
FROM python:3.11-slim
WORKDIR /opt/bnfold
COPY pyproject.toml README.md LICENSE ./
COPY folding folding
COPY service service
RUN pip install --no-cache-dir .
RUN useradd --create-home bnfold
USER bnfold
WORKDIR /models
ENTRYPOINT ["bnfold"]
CMD ["--help"]
