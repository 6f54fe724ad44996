/**
 * The import rules of the house. `protocol/` is pure, training and data know nothing of the network, the simulator
 * drives the same code without sockets. scripts/check-imports.js runs them.
 */
const PURE_LIBRARIES = '(^|/)node_modules/(cborg|zod|@noble/hashes|multiformats)/';
const NETWORK_LIBRARIES = '(^|/)node_modules/(libp2p|@libp2p|@chainsafe|@multiformats|it-[^/]+)/';
const OPTIONAL_BACKENDS = '^(webgpu|@tensorflow/tfjs-node|@tensorflow/tfjs-node-gpu|@tensorflow/tfjs-backend-webgpu)$';

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    {
      name: 'protocol-is-pure',
      comment: 'protocol/ imports nothing outside itself and small pure libraries',
      severity: 'error',
      from: { path: '^protocol/' },
      to: { pathNot: ['^protocol/', PURE_LIBRARIES] },
    },
    {
      name: 'training-and-data-without-network',
      comment: 'node/train/, node/data/ and node/store/ never import node/net/',
      severity: 'error',
      from: { path: '^node/(train|data|store)/' },
      to: { path: ['^node/net/', NETWORK_LIBRARIES] },
    },
    {
      name: 'network-on-its-own',
      comment: 'node/net/ imports protocol/ and how keys are kept, nothing else of node/',
      severity: 'error',
      from: { path: '^node/net/' },
      to: { path: '^node/(?!net/|store/identity[.]ts)' },
    },
    {
      name: 'journal-reads-disk-and-identities',
      comment: 'node/journal/ imports protocol/, node/store/ and node/net/, nothing else of node/',
      severity: 'error',
      from: { path: '^node/journal/' },
      to: { path: '^node/(?!(journal|store|net)/)' },
    },
    {
      name: 'chaos-from-outside',
      comment: 'node/chaos/ starts peers as processes: it imports protocol/ and what they print, nothing else of node/',
      severity: 'error',
      from: { path: '^node/chaos/' },
      to: { path: '^node/(?!chaos/|peer-events)' },
    },
    {
      name: 'sim-without-sockets',
      comment: 'sim/ imports protocol/, node/train/ and node/data/, nothing else of node/',
      severity: 'error',
      from: { path: '^sim/' },
      to: { path: ['^node/(?!(train|data)/)', NETWORK_LIBRARIES] },
    },
    {
      name: 'sim-only-from-command-line',
      comment: 'only the command line starts the simulator',
      severity: 'error',
      from: { path: '^node/(?!cli/)' },
      to: { path: '^sim/' },
    },
    {
      name: 'product-without-tests',
      comment: 'what users run imports neither tests nor chores',
      severity: 'error',
      from: { path: '^(protocol|node|sim)/' },
      to: { path: '^(test|scripts)/' },
    },
    {
      name: 'not-own-index',
      comment: 'files of a folder import each other directly, never their own index.ts',
      severity: 'error',
      from: { path: '^(.+)/[^/]+$' },
      to: { path: '^$1/index[.]ts$' },
    },
    {
      name: 'no-cycles',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    {
      name: 'resolvable',
      comment: 'an import that cannot be found cannot be checked; only backends that a machine may lack are excused',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true, pathNot: OPTIONAL_BACKENDS },
    },
  ],
  options: {
    doNotFollow: { path: '(^|/)node_modules/' },
    // type-only imports count too: they tie folders together just as much
    tsPreCompilationDeps: true,
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node', 'default', 'types'] },
  },
};
