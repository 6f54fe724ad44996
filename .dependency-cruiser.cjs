/** The import rules of the house; scripts/check-imports.js runs them. */
const PURE_LIBRARIES = '(^|/)node_modules/(cborg|zod|@noble/hashes|multiformats)/';
const NETWORK_LIBRARIES = '(^|/)node_modules/(libp2p|@libp2p|@chainsafe|@multiformats|it-[^/]+)/';
const OPTIONAL_BACKENDS = '^(webgpu|@tensorflow/tfjs-node|@tensorflow/tfjs-node-gpu|@tensorflow/tfjs-backend-webgpu)$';

const OWN_CODE = '^(protocol|node|sim|scripts|test)/';
/** What of our own code each room may import beside itself: the table of docs/architecture.md. */
const MAY_IMPORT = {
  'protocol/': [],
  'node/train/': ['protocol/', 'node/data/', 'node/store/', 'node/typescript[.]js$'],
  'node/data/': ['protocol/', 'node/store/'],
  'node/store/': ['protocol/'],
  'node/net/': ['protocol/', 'node/store/identity[.]ts$'],
  'node/journal/': ['protocol/', 'node/store/', 'node/net/'],
  'node/chaos/': ['protocol/', 'node/peer-events[.]ts$'],
  'node/[^/]+$': ['protocol/', 'node/(?!cli/)'],
  'node/cli/': ['protocol/', 'node/', 'sim/'],
  'sim/': ['protocol/', 'node/train/', 'node/data/'],
};

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    ...Object.entries(MAY_IMPORT).map(([room, others]) => ({
      name: `room ${room}`,
      severity: 'error',
      from: { path: `^${room}` },
      to: { path: OWN_CODE, pathNot: [room, ...others].map((path) => `^${path}`) },
    })),
    {
      name: 'protocol-is-pure',
      comment: 'protocol/ imports small pure libraries and nothing else',
      severity: 'error',
      from: { path: '^protocol/' },
      to: { pathNot: [OWN_CODE, PURE_LIBRARIES] },
    },
    {
      name: 'no-sockets',
      comment: 'training, data, disk and simulator know nothing of the network',
      severity: 'error',
      from: { path: '^(node/(train|data|store)|sim)/' },
      to: { path: NETWORK_LIBRARIES },
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
