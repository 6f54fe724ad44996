/**
 * Teaches this thread to import TypeScript (tsx).
 *
 * From then on every module that is loaded, of whatever package, costs a question to another thread and its answer:
 * hundreds of them for libp2p. Libraries that were imported before cost none, and 20 MB less memory.
 * @param {string[]} libraries that the modules to come will import
 */
export async function learnTypeScript(libraries) {
  await Promise.all(libraries.map((name) => import(name)));
  const { register } = await import('tsx/esm/api');
  register();
}
