/**
 * `Promise.withResolvers` for Node 20. libp2p 3 and its queues call it and crash without it; Node has it from 22 on.
 * Every file that imports a libp2p package imports this one first: modules are evaluated in the order of their imports.
 */
interface Resolvers<T> {
  promise: Promise<T>;
  resolve: (value: T | PromiseLike<T>) => void;
  reject: (reason?: unknown) => void;
}

function withResolvers<T>(this: PromiseConstructor): Resolvers<T> {
  const resolvers = {} as Resolvers<T>;
  resolvers.promise = new this<T>((resolve, reject) => {
    resolvers.resolve = resolve;
    resolvers.reject = reject;
  });
  return resolvers;
}

Promise.withResolvers ??= withResolvers;
