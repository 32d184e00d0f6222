# syntax=docker/dockerfile:1

# The playground: three files for the browser.
FROM node:22-bookworm-slim AS playground
WORKDIR /playground
COPY playground/package.json playground/package-lock.json playground/.npmrc ./
RUN npm ci --no-audit --no-fund
COPY playground .
RUN node build.mjs

# The binary, with everything the linker can still do for it.
FROM rust:1-slim-bookworm AS build
# jemalloc is built with it.
RUN apt-get update && apt-get install --yes --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /kontor
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/kontor/target \
    cargo build --locked --profile dist -p kontor && cp target/dist/kontor /usr/local/bin/

# Kontor alone: Postgres and Redis run elsewhere (DATABASE_URL, REDIS_URL).
FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --no-create-home kontor \
    && install --directory --owner=kontor --group=kontor /var/lib/kontor
COPY --from=build /usr/local/bin/kontor /usr/local/bin/
COPY --from=playground /playground/dist /usr/share/kontor/playground
USER kontor
ENV KONTOR_DATA=/var/lib/kontor \
    KONTOR_LISTEN=0.0.0.0:4000 \
    KONTOR_PLAYGROUND=/usr/share/kontor/playground
EXPOSE 4000
# Kontor asks itself: the image needs no other program for it.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["kontor", "health"]
# SIGTERM ends it cleanly: requests are answered, workers give up their leases.
STOPSIGNAL SIGTERM
ENTRYPOINT ["kontor"]
CMD ["run"]
