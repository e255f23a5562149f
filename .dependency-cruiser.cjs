/**
 * The directions of docs/ARCHITECTURE.md, held by machine:
 * matrix <- resync <- store, federation, verification <- rooms, accounts <- activities, operator, federation-api, client-api <- cli.
 */
const forbid = (name, comment, from, to) => ({
  name,
  severity: 'error',
  comment,
  from: typeof from === 'string' ? { path: from } : from,
  to: typeof to === 'string' ? { path: to } : to,
});

module.exports = {
  forbidden: [
    forbid('no-circular', 'A cycle has no first file to read.', {}, { circular: true }),
    forbid(
      'nothing-unresolved',
      'An import that is not found is one no rule sees.',
      { path: '^(src|workflows|activities)/' },
      { couldNotResolve: true },
    ),
    forbid(
      'no-dead-modules',
      'Code that nothing runs is never true for long. The simulator is reached by the demo, by tests and benches; the schema by drizzle-kit.',
      {
        path: '^(src/cli/(main|program)\\.ts|src/cli/commands/|workflows/(index|payload-converter)\\.ts|activities/index\\.ts|src/verification/thread\\.ts)',
      },
      {
        path: '^(src|workflows|activities)/',
        pathNot:
          '^(src/cli/main\\.ts|workflows/(index|payload-converter)\\.ts|src/verification/thread\\.ts|src/simulator/|src/store/schema/)',
        reachable: false,
      },
    ),
    forbid(
      'matrix-is-pure',
      'The protocol core knows nothing above it. `invariant` is its only way to throw; tweetnacl makes public keys.',
      '^src/matrix/',
      '^(src/(?!matrix/|invariant\\.ts)|workflows/|activities/|node_modules/(?!tweetnacl/|lru-cache/|sodium-native/))',
    ),
    forbid(
      'matrix-keeps-one-cache',
      'A verified key object is a function of its 32 bytes, and a room names thousands of them: the cache changes no answer.',
      { path: '^src/matrix/', pathNot: '^src/matrix/signing/ed25519\\.ts$' },
      '^node_modules/lru-cache/',
    ),
    forbid(
      'matrix-does-no-io',
      'Of Node the protocol core takes hashes, keys and UTF-8; no file, socket, thread or timer.',
      '^src/matrix/',
      { dependencyTypes: ['core'], pathNot: '^(node:)?(crypto|buffer|module)$' },
    ),
    forbid(
      'matrix-loads-one-library-if-it-can',
      'libsodium has no build for every platform, and only its one user may do without it.',
      { path: '^src/matrix/', pathNot: '^src/matrix/signing/ed25519\\.ts$' },
      '^((node:)?module$|node_modules/sodium-native/)',
    ),
    forbid(
      'the-oracle-knows-the-core-only',
      'What the simulation holds to be right is worked out without any code of ingestion, walk, store or trie; of these it knows the names of journal entries.',
      '^test/simulation/(oracle|check-6)\\.ts$',
      '^(src/(?!matrix/|resync/events\\.ts)|workflows/|activities/|scripts/|node_modules/|test/(?!simulation/oracle\\.ts))',
    ),
    forbid(
      'columns-know-what-an-id-is',
      'Columns are for whoever has a million of something.',
      '^src/columns/',
      '^(src/(?!columns/|matrix/identifiers\\.ts|invariant\\.ts)|workflows/|activities/|node_modules/)',
    ),
    forbid(
      'inspect-knows-the-core-only',
      'Documents are for people; the protocol does not know them.',
      '^src/inspect/',
      '^(src/(?!inspect/|matrix/|invariant\\.ts)|workflows/|activities/|node_modules/)',
    ),
    forbid(
      'resync-is-pure',
      'Decisions run inside the workflow sandbox.',
      '^src/resync/',
      '^(src/(?!resync/|matrix/identifiers\\.ts)|workflows/|activities/|node_modules/)',
    ),
    forbid(
      'sandboxed-code-uses-nothing-of-node',
      'The workflow sandbox has no modules of Node, and what is random or timed there breaks replays.',
      '^(workflows/|src/resync/|src/temporal/(names|contract)\\.ts|src/matrix/identifiers\\.ts)',
      { dependencyTypes: ['core'] },
    ),
    forbid(
      'workflows-are-deterministic',
      'Workflows name activities by type only and run src/resync.',
      '^workflows/',
      '^(activities/|src/(?!resync/|temporal/(names|contract)\\.ts|matrix/identifiers\\.ts)|node_modules/(?!@temporalio/(workflow|common|activity|interceptors-opentelemetry-v2)))',
    ),
    forbid(
      'only-store-knows-postgres',
      'SQL lives in one folder; a launcher asks its server whether it answers.',
      '^(src/(?!store/|launch/)|workflows/|activities/)',
      '^node_modules/(pg|drizzle-orm|pg-copy-streams)/',
    ),
    forbid(
      'only-federation-speaks-http-out',
      'Every outbound request passes the address rules, but those to where the operator says himself. Commands call our own operator API; launch and simulator the loopback.',
      '^(src/(?!federation/|app-services/ask-service\\.ts|cli/|launch/|simulator/)|workflows/|activities/)',
      '^node_modules/undici/',
    ),
    forbid(
      'only-launch-starts-processes',
      'A child process needs a keeper, or it outlives us.',
      '^(src/(?!launch/)|workflows/|activities/)',
      { dependencyTypes: ['core'], path: '^(node:)?(child_process|cluster)$' },
    ),
    forbid(
      'verification-knows-the-core-only',
      'Its threads load what it imports; a pool of the store or a socket has no place there.',
      '^src/verification/',
      '^(src/(?!verification/|matrix/|(invariant|on-abort)\\.ts)|workflows/|activities/|node_modules/)',
    ),
    forbid(
      'store-knows-no-edge',
      'The store is below the use cases; of verification it knows the shapes of what is stored.',
      '^src/store/',
      '^(workflows/|activities/|src/(federation|federation-api|client-api|http|rooms|accounts|operator|temporal|cli|launch|simulator|verification/(?!contract\\.ts)))',
    ),
    forbid(
      'federation-knows-no-store',
      'The federation edge gets its stores as arguments.',
      '^src/federation/',
      '^(workflows/|activities/|src/(store|rooms|accounts|operator|federation-api|client-api|http|temporal|cli|launch|simulator)/)',
    ),
    forbid(
      'rooms-know-no-edge',
      'Use cases do not know who calls them, no HTTP server and no Temporal; contract.ts says in shapes what they offer.',
      '^src/rooms/',
      '^(workflows/|activities/|src/(temporal|cli|launch|simulator|accounts|operator|federation-api|client-api|http)/|node_modules/(@temporalio|fastify)/)',
    ),
    forbid(
      'sending-decides-nothing-about-rooms',
      "It reads what is owed and carries it; the health of servers is everybody's.",
      '^src/sending/',
      '^(workflows/|activities/|src/(?!sending/|store/|matrix/|federation/(contract|error)\\.ts|rooms/(context|resync/destination-health)\\.ts|clock\\.ts|invariant\\.ts|resync/events\\.ts)|node_modules/)',
    ),
    forbid(
      'accounts-know-no-rooms',
      'Users exist without rooms, and nothing about them asks the network.',
      '^src/accounts/',
      '^(workflows/|activities/|src/(?!accounts/|store/|matrix/|clock\\.ts|invariant\\.ts)|node_modules/(?!p-limit/))',
    ),
    forbid(
      'app-services-are-told-and-asked',
      'They are told what the store shows and asked for names; of rooms they know the directory only, by its shapes.',
      '^src/app-services/',
      '^(workflows/|activities/|src/(?!app-services/|store/|matrix/|rooms/(directory-contract|error)\\.ts|resync/events\\.ts|logging\\.ts|clock\\.ts|invariant\\.ts)|node_modules/(?!(undici|re2js|lru-cache|zod)/))',
    ),
    forbid(
      'devices-know-no-edge',
      'What goes between devices is about users and their servers; whoever asks for it does so by contract.ts.',
      '^src/(devices|edus)/',
      '^(workflows/|activities/|src/(temporal|cli|launch|simulator|operator|federation-api|client-api|http|sync|sending)/|node_modules/(@temporalio|fastify)/)',
    ),
    forbid(
      'activities-are-thin',
      'Activities call use cases and translate their failures; SQL and HTTP are below.',
      '^activities/',
      '^src/(operator|federation-api|client-api|http|cli|launch|simulator)/',
    ),
    forbid(
      'http-knows-no-use-case',
      "A listener's manners; it knows no use case.",
      '^src/http/',
      '^(workflows/|activities/|src/(?!http/|matrix/pdu\\.ts|telemetry/|cancellation\\.ts|logging\\.ts)|node_modules/(?!fastify/))',
    ),
    forbid(
      'operator-asks-ports',
      'The operator API is given what it calls, so that a test gives it a few lines.',
      '^src/operator/',
      '^(workflows/|activities/|src/(store|federation|federation-api|client-api|temporal|verification|cli|launch|simulator)/)',
    ),
    forbid(
      'federation-api-knows-shapes',
      "As the operator API it is given what it calls; signatures, our keys and the cutting of bodies are federation's.",
      '^src/federation-api/',
      '^(workflows/|activities/|src/(store|operator|client-api|temporal|cli|launch|simulator|(accounts|devices)/(?!contract\\.ts)|rooms/(?!contract\\.ts|(resident|directory)-contract\\.ts|invites/contract\\.ts|(resident-)?error\\.ts)|federation/(?!request-auth|key-answer|event-splitter)|verification/(?!contract\\.ts))|node_modules/(pg|drizzle-orm)/)',
    ),
    forbid(
      'client-api-knows-shapes',
      'As the other edges it is given what it calls; it knows neither database nor network, and no other edge.',
      '^src/client-api/',
      '^(workflows/|activities/|src/(?!client-api/|http/|matrix/|resync/|(accounts|app-services|devices|edus|rooms|rooms/purge|sync)/(contract|client-contract|directory-contract|error)\\.ts|logging\\.ts|clock\\.ts|invariant\\.ts)|node_modules/(?!(fastify|zod|lru-cache)/))',
    ),
    forbid(
      'sync-asks-nobody',
      'A sync never asks the network and takes no lock of a room: it knows the store, and what accounts keep for clients.',
      '^src/sync/',
      '^(workflows/|activities/|src/(?!sync/|store/|matrix/|resync/|accounts/account-data\\.ts|cancellation\\.ts|clock\\.ts|invariant\\.ts|turns\\.ts)|node_modules/(?!lru-cache/))',
    ),
    forbid(
      'temporal-knows-no-use-case',
      'The worker is given its activities.',
      '^src/temporal/',
      '^(activities/|src/(store|rooms|federation|operator|verification|cli|launch|simulator)/)',
    ),
    forbid(
      'only-metrics-knows-prometheus',
      'What is counted is named in one place, and no use case waits for it.',
      '^(src/(?!metrics(/|\\.ts))|workflows/|activities/)',
      '^node_modules/prom-client/',
    ),
    forbid(
      'nobody-knows-that-it-is-counted',
      'Metrics wrap what a process is put together of, and the store tells its observer: only the command line knows both.',
      '^(src/(?!metrics(/|\\.ts)|cli/)|workflows/|activities/)',
      '^src/metrics(/|\\.ts)',
    ),
    forbid(
      'metrics-only-watch',
      'They are told, and decide nothing: no edge, no Temporal, no command.',
      '^src/metrics(/|\\.ts)',
      '^(workflows/|activities/|src/(operator|federation-api|client-api|temporal|cli|launch|simulator)/)',
    ),
    forbid(
      'launch-starts-servers-and-nothing-of-ours',
      'Tests and the demo start what we depend on without loading what we are.',
      '^src/launch/',
      '^(workflows/|activities/|src/(store|rooms|federation|operator|temporal|verification|resync|cli|simulator)/)',
    ),
    forbid(
      'product-does-not-know-its-test-bench',
      'The simulator is for demo, tests and benches only.',
      '^(src/(?!simulator/|cli/)|workflows/|activities/)',
      '^src/simulator/',
    ),
    forbid(
      'nothing-knows-the-shell',
      'Commands call everything and nothing calls them.',
      '^(src/(?!cli/)|workflows/|activities/)',
      '^src/cli/',
    ),
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node', 'default', 'types'] },
  },
};
