# Recipes that people use; CI runs the same ones. `just` alone lists them.

set shell := ["bash", "-euo", "pipefail", "-c"]

# The features of cargo that are needed beyond a plain toolchain are brought by `_toolchain`.
export CARGO_TERM_COLOR := env("CARGO_TERM_COLOR", "auto")

# Lists the recipes.
default:
    @just --list --unsorted

# The pinned toolchain and the target of the guests; a no-op when they are there.
_toolchain:
    @rustup toolchain install --no-self-update >/dev/null 2>&1 || rustup show active-toolchain
    @rustup target list --installed | grep -qx wasm32-wasip2 || rustup target add wasm32-wasip2

# Builds providers and the guests of the tests as components, into target/wasm32-wasip2/guest.
guests: _toolchain
    cargo build --locked -p provider-hubspot -p provider-pipedrive -p provider-salesforce -p provider-starter --target wasm32-wasip2 --profile guest
    cargo build --locked -p tandem-guests --examples --target wasm32-wasip2 --profile guest

# Builds the daemon, the simulator and the programs of the tests.
build: _toolchain
    cargo build --locked --workspace --bins

# Shows the whole thing in about a minute: two customers, both directions, a conflict, a bad record, a quota, a SIGKILL, a judge.
demo *ARGS: guests build
    ./target/debug/tandem-demo {{ARGS}}

# End-to-end tests wait more than they compute: two tests for each core.
# Runs all tests; crash and power-loss tests with a tenth of their counts or less, rounds of conflicts with a twenty-fifth.
test *ARGS: guests build
    RUST_TEST_THREADS="${RUST_TEST_THREADS:-$((2 * {{num_cpus()}}))}" cargo test --locked --workspace --no-fail-fast {{ARGS}}

# Runs the crash and power-loss tests, those of swapped providers and the scenario of all CRMs with their full counts.
torture: guests build
    TANDEM_TORTURE=1 cargo test --locked --workspace --test store_power_loss -- --nocapture --test-threads 1
    TANDEM_TORTURE=1 cargo test --locked --workspace --test power_loss -- --nocapture --test-threads 1
    TANDEM_TORTURE=1 cargo test --locked --workspace --test crash -- --nocapture --test-threads 1
    TANDEM_TORTURE=1 cargo test --locked --workspace --test providers -- --nocapture --test-threads 1
    TANDEM_TORTURE=1 cargo test --locked --workspace --test crms -- --nocapture --test-threads 1

# Simulates the whole engine on virtual time, a world for each seed: `just simulate 1000000 --threads 2`; `just simulate --trace SEED` shows one.
# Our own crates are built at full optimisation for it; assertions stay on.
simulate *ARGS: _toolchain
    CARGO_PROFILE_DEV_OPT_LEVEL=3 cargo build --locked --workspace --bin tandem-simulation
    ./target/debug/tandem-simulation {{ARGS}}

# Plays the conflicts with their full counts: 1,000 rounds for each policy and class of guarantee, paused and raced; and a minute of edits
# on three sides. Prints what was counted.
rounds *ARGS: guests build
    TANDEM_TORTURE=1 cargo test --locked --workspace --test rounds --test three_sides -- --nocapture --test-threads 1 {{ARGS}}

# Measures; `just bench --help` lists the figures. For this our own crates are built at full optimisation and, as in a release, the
# daemon's without assertions for debugging; and all crates are optimised across their parts (cargo calls that `lto = false`), which
# development does without: it takes a seventh off what a record costs the daemon.
bench *ARGS: guests
    CARGO_PROFILE_DEV_OPT_LEVEL=3 CARGO_PROFILE_DEV_LTO=false cargo build --locked --workspace --bins --target-dir target \
        --config profile.dev.package.tandem.debug-assertions=false --config profile.dev.package.tandem.overflow-checks=false \
        --config profile.dev.package.tandem-core.debug-assertions=false --config profile.dev.package.tandem-core.overflow-checks=false
    ./target/debug/tandem-bench {{ARGS}}

# Breaks host/core in each place in turn and fails if no test notices: some three hours on two cores; one file takes minutes:
# just mutants -f host/core/src/redact.rs. Works in a copy; the outcome is in target/mutants.out, and what nobody could notice is
# in .cargo/mutants.toml. Properties are tried on fewer cases and from one seed, so that a mutant ends the same each time; one that
# never ends (exit code 3) was noticed.
mutants *ARGS: _toolchain
    command -v cargo-mutants >/dev/null || cargo install --locked cargo-mutants
    mkdir -p target
    PROPTEST_CASES=256 PROPTEST_RNG_SEED=1 PROPTEST_MAX_SHRINK_ITERS=0 PROPTEST_DISABLE_FAILURE_PERSISTENCE=1 \
        CARGO_PROFILE_DEV_OPT_LEVEL=0 CARGO_PROFILE_DEV_DEBUG=0 \
        cargo mutants --package tandem-core --output target --no-shuffle {{ARGS}} || [ $? -eq 3 ]

# Runs the vendors' own client libraries against the simulator: needs npm, python3 and, for what is not in target/clients yet, a network.
test-clients: _toolchain
    cargo build --locked --workspace --bin tandem-simulator
    tests/clients/run

# Formatting, clippy with warnings denied, documentation, licences and advisories.
lint: _toolchain
    cargo fmt --all --check
    cargo clippy --locked --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items
    if command -v cargo-deny >/dev/null; then cargo deny check licenses bans sources && {{just_executable()}} _advisories; else echo "cargo-deny is not installed; licences and advisories are not checked (cargo install --locked cargo-deny)"; fi

# Known faults of what we depend on. The database comes over the network; a machine without one is told so.
_advisories:
    @if cargo deny fetch db >/dev/null 2>&1; then cargo deny --offline check advisories; else echo "the advisory database could not be fetched; advisories are not checked"; fi

# Runs a provider's mapping on a file, there and back: just map target/wasm32-wasip2/guest/provider_hubspot.wasm record.json
map COMPONENT FILE *ARGS: build
    ./target/debug/tandem map {{COMPONENT}} {{FILE}} {{ARGS}}

# The folder may be one of `provider new` or of plugins/. The daemon is the one of TANDEM_CONFIG, or of TANDEM_URL and TANDEM_TOKEN.
# Builds a provider's folder quickly, swaps it into the running daemon, and works on the connection's last record again.
try-provider FOLDER CONNECTION:
    #!/usr/bin/env bash
    set -euo pipefail
    tandem="{{justfile_directory()}}/target/debug/tandem"
    [ -x "$tandem" ] || { echo "there is no $tandem; run \`just build\` once" >&2; exit 1; }
    cd "{{invocation_directory()}}" && cd "{{FOLDER}}"
    # Cargo says where the component is: in the folder's own target, or in that of the workspace around it.
    built=$(cargo build --lib --profile quick --target wasm32-wasip2 --message-format json-render-diagnostics)
    component=$(grep -o '"[^"]*\.wasm"' <<< "$built" | tail -1 | tr -d '"')
    cd "{{invocation_directory()}}" && "$tandem" provider try "$component" --connection "{{CONNECTION}}"

# Writes the tables of fields in docs/providers, each as the provider's mapping says it.
fields: guests build
    for page in docs/providers/*.md; do ./target/debug/tandem provider fields "target/wasm32-wasip2/guest/provider_$(basename "$page" .md).wasm" --into "$page"; done

# What each provider costs: size, time to admit with 10,000 made-up records of each object, time and memory of each function, and of each
# operation on the golden cases in its folder.
costs: guests build
    for provider in hubspot salesforce pipedrive; do ./target/debug/tandem provider check --records 10000 --cases "plugins/$provider/cases" "target/wasm32-wasip2/guest/provider_$provider.wasm" | sed '/limits of/,/replaced/d'; done

# What CI runs.
ci: test
