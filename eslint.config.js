import tseslint from 'typescript-eslint';

/** Globals that make a decision depend on the machine; each has one file that owns it. */
const ambient = [
  {
    object: 'Date',
    property: 'now',
    message: 'Time is an argument (src/clock.ts), so that tests and replays decide it.',
  },
  { object: 'Math', property: 'random', message: 'Randomness is an argument, so that a seed reproduces a run.' },
  { object: 'process', property: 'env', message: 'The environment is read once, by src/config.ts.' },
];

export default tseslint.config(
  { ignores: ['dist/', 'node_modules/', 'test/histories/', 'bin/', '*.js', '*.cjs'] },
  ...tseslint.configs.strictTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': 'error',
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'inline-type-imports' }],
      curly: ['error', 'multi-line', 'consistent'],
      'sort-imports': ['error', { ignoreDeclarationSort: true, ignoreCase: false }],
      'no-restricted-properties': ['error', ...ambient],
      'no-console': ['error'],
    },
  },
  {
    files: ['src/clock.ts', 'src/config.ts', 'src/cli/**', 'src/launch/**', 'scripts/**', 'test/**'],
    rules: { 'no-restricted-properties': 'off', 'no-console': 'off' },
  },
  {
    // Inside the workflow sandbox Date.now() is the deterministic time of the workflow task.
    files: ['workflows/**'],
    rules: { 'no-restricted-properties': 'off' },
  },
  {
    files: ['test/**', 'scripts/**'],
    rules: {
      '@typescript-eslint/no-non-null-assertion': 'off',
      '@typescript-eslint/no-unsafe-assignment': 'off',
      '@typescript-eslint/no-unsafe-member-access': 'off',
    },
  },
);
