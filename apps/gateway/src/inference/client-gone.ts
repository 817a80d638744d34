/** The client closed the connection before its answer was out. */
export class ClientGone extends Error {
  override readonly name = 'ClientGone';
}
