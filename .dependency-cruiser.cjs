/** The direction of docs/ARCHITECTURE.md: matrix <- resync <- store, federation <- rooms <- activities, operator <- cli. */
const forbid = (name, comment, from, to) => ({ name, severity: 'error', comment, from: { path: from }, to: { path: to } });
module.exports = {
  forbidden: [
    { name: 'no-circular', severity: 'error', comment: 'A cycle has no first file to read.', from: {}, to: { circular: true } },
    forbid('matrix-is-pure', 'The protocol core does no I/O and knows nothing above it.', '^src/matrix/', '^(src/(?!matrix/)|workflows/|activities/|node_modules/(?!tweetnacl))'),
    forbid('resync-is-pure', 'Decisions run inside the workflow sandbox.', '^src/resync/', '^(src/(?!resync/|matrix/identifiers)|workflows/|activities/|node_modules/)'),
    forbid('workflows-are-deterministic', 'Workflows name activities by type only and run src/resync.', '^workflows/', '^(src/(?!resync/|temporal/(names|contract)\\.ts|matrix/identifiers)|node_modules/(?!@temporalio/(workflow|common|activity|interceptors-opentelemetry-v2)))'),
    { name: 'only-store-knows-postgres', severity: 'error', comment: 'SQL lives in one folder.', from: { path: '^(src/(?!store/|launch/)|workflows/|activities/)' }, to: { path: '^node_modules/(pg|drizzle-orm|pg-copy-streams)/' } },
    { name: 'only-federation-speaks-http-out', severity: 'error', comment: 'Every outbound request passes the address rules.', from: { path: '^(src/(?!federation/|cli/|launch/|simulator/)|workflows/|activities/)' }, to: { path: '^node_modules/undici/' } },
    forbid('store-knows-no-edge', 'The store is below the use cases; of verification it knows the shapes of what is stored.', '^src/store/', '^src/(federation|rooms|operator|temporal|cli|launch|simulator|verification/(?!contract\\.ts))'),
    forbid('federation-knows-no-store', 'The federation edge gets its stores as arguments.', '^src/federation/', '^src/(store|rooms|operator|temporal|cli|launch|simulator)/'),
    forbid('rooms-know-no-edge', 'Use cases do not know who calls them.', '^src/rooms/', '^src/(operator|temporal|cli|launch|simulator)/'),
    forbid('product-does-not-know-its-test-bench', 'The simulator is for demo, tests and benches only.', '^(src/(?!simulator/|cli/)|workflows/|activities/)', '^src/simulator/'),
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node', 'default', 'types'] },
  },
};
