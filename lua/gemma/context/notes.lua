--- context/notes.lua: what a project says about itself in a file named .gemma.md.
---
--- The file steers what the model writes, so it is read only when the user trusts it: Neovim's own
--- trust database decides (|:trust|). A message says once that a file, as it is, waits for that.

local M = {}

local notify = require('gemma.notify')
local util = require('gemma.util')

M.FILE = '.gemma.md'
M.MAX_FILE = 32 * 1024 -- bytes; larger files are not notes
M.MAX_BYTES = 2048 -- that go into a prompt

local found = {} ---@type table<string, string|false> by folder: path of the file
local read = {} ---@type table<string, { stamp: string, text: string?, ask: string? }> by path
local told = {} ---@type table<string, string> by path: its stamp then

--- The nearest notes file of a folder or of those above it; above the home folder none is looked for.
---@param dir string
---@return string?
function M.find(dir)
  if found[dir] == nil then
    local home = vim.uv.os_homedir()
    local opts = { path = dir, upward = true, type = 'file', stop = home and vim.fs.dirname(home) }
    found[dir] = vim.fs.find(M.FILE, opts)[1] or false
  end
  return found[dir] or nil
end

--- A notes file may have been written or removed.
function M.forget()
  found, read = {}, {}
end

--- Other programs write and remove notes files too.
function M.look_again()
  found = {}
end

--- Does the trust database say yes to a content?
---@param db string content of stdpath('state')/trust: a hash and a path on each line
---@param path string real path
---@param hash string sha256
---@return boolean trusted
---@return boolean denied
function M.verdict(db, path, hash)
  for line in vim.gsplit(db, '\n', { plain = true }) do
    local h, p = line:match('^(%S+) (.+)$')
    if p == path then
      return h == hash, h == '!'
    end
  end
  return false, false
end

---@return string
local function trust_path()
  return vim.fs.joinpath(vim.fn.stdpath('state') --[[@as string]], 'trust')
end

---@param stat uv.fs_stat.result?
---@return string
local function stamp_of(stat)
  return stat and ('%d.%d %d'):format(stat.mtime.sec, stat.mtime.nsec, stat.size) or '-'
end

---@param path string
---@return string? text when it is trusted
---@return boolean? ask nobody has decided about it yet
local function trusted(path)
  local real = vim.uv.fs_realpath(path)
  local content = real and util.read_file(real)
  if not content or content:find('\0', 1, true) then
    return nil, false
  end
  local db = util.read_file(trust_path()) or ''
  local yes, denied = M.verdict(db, real --[[@as string]], vim.fn.sha256(content))
  return yes and content or nil, not yes and not denied
end

--- The notes for a buffer's file, when they may be used. Never asks. Costs two stats while neither the
--- file nor the trust database changes.
---@param name string full path of the buffer's file
---@return string? text
---@return string? ask path of a file that needs a decision
function M.get(name)
  local path = name ~= '' and M.find(vim.fs.dirname(name)) or nil
  local stat = path and vim.uv.fs_stat(path)
  if not path or not stat then
    return nil
  elseif stat.size > M.MAX_FILE then
    local fmt = '%s is larger than %d kB and not used. Shorten it.'
    notify.once(fmt:format(vim.fn.fnamemodify(path, ':~:.'), M.MAX_FILE / 1024))
    return nil
  end
  local stamp = stamp_of(stat) .. ' ' .. stamp_of(vim.uv.fs_stat(trust_path()))
  local r = read[path]
  if not r or r.stamp ~= stamp then
    local text, ask = trusted(path)
    r = { stamp = stamp, text = text, ask = ask and path or nil }
    read[path] = r
  end
  return r.text, r.ask
end

--- A system prompt with the notes behind it, for questions and edits about a buffer.
---@param system string
---@param buf integer
---@return string
function M.with(system, buf)
  if not require('gemma.config').get().context.notes or vim.b[buf].gemma == false then
    return system
  end
  M.look_again() -- who asks can wait for it
  local text = M.get(vim.api.nvim_buf_get_name(buf))
  if not text then
    return system
  end
  local head = require('gemma.context.text').head(vim.trim(text), M.MAX_BYTES)
  return ('%s\n\nThe project says about itself:\n%s'):format(system, head)
end

--- Says once that a notes file waits to be trusted, and again when it was changed since. No dialog: it
--- would take the next keys for its answer. Only in Normal mode and with somebody to read it.
---@param path string
function M.tell(path)
  local busy = vim.api.nvim_get_mode().mode ~= 'n' or vim.fn.reg_executing() ~= ''
  if busy or #vim.api.nvim_list_uis() == 0 or vim.fn.getcmdwintype() ~= '' then
    return
  end
  local stamp = stamp_of(vim.uv.fs_stat(path))
  if told[path] == stamp then
    return
  end
  told[path] = stamp
  local name = vim.fn.fnamemodify(path, ':~:.')
  notify.info(('%s is not trusted, so not used. Open it, then :trust.'):format(name))
end

return M
