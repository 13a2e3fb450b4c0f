# A place to develop and test in; nodes of a real cluster need no container.
#   docker build -t eventstreamcore-dev . && docker run --rm -it --privileged eventstreamcore-dev
FROM python:3.12-slim

# graphviz: make drawings; iproute2: network namespaces; strace: fsyncs that fail; tmux: full-screen commands.
RUN apt-get update \
    && apt-get install -y --no-install-recommends git graphviz iproute2 make procps strace tmux \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /eventstreamcore
COPY . .
RUN make .venv/.installed
CMD ["bash"]
