// Loaded first (`node --import`) into a process that must not outlive the one that started it with an IPC channel: when that
// one ends, even by SIGKILL, the system closes the channel, and this process gets the SIGTERM that the other could not send.
process.once('disconnect', () => process.kill(process.pid, 'SIGTERM'));
// The channel alone does not keep the process running.
process.channel?.unref();
// Workers that this process forks have channels of their own, on other terms.
const own = process.execArgv.findIndex((argument) => argument.endsWith('with-parent.mjs'));
if (own > 0) process.execArgv.splice(own - 1, 2);
