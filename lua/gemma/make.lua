--- make.lua: how the library is built with the user's own compiler: the command, and what its output
--- means. Requires nothing, so that build.lua can use it before the plugin is on 'runtimepath'.

local M = {}

--- A make that runs us (in a test, in a build of a package) must not lend its job slots. What the compiler
--- says is looked through for English words.
---@type table<string, string>
M.env = { MAKEFLAGS = '', MAKELEVEL = '', LC_ALL = 'C' }

--- The command that builds the library where the plugin is. make replaces the file by a rename, so
--- that a Neovim that has the old one mapped keeps it.
---@param root string the plugin's folder
---@return string[]? argv
---@return string? err one line
function M.command(root)
  if not vim.uv.fs_stat(vim.fs.joinpath(root, 'csrc')) then
    return nil, ('no sources in %s. Install the plugin from its repository.'):format(root)
  elseif not vim.uv.fs_access(root, 'W') then
    return nil, ('%s cannot be written. Build a copy of it, and set lib_path.'):format(root)
  end
  local make
  for _, name in ipairs({ 'gmake', 'make' }) do
    make = make or vim.fn.executable(name) == 1 and name
  end
  if not make then
    return nil, 'make was not found. Install make and a C compiler.'
  end
  local cc = vim.split(vim.env.CC or 'cc', ' ')[1]
  if vim.fn.executable(cc) == 0 then
    return nil, ('no C compiler (%s) was found. Install gcc or clang.'):format(cc)
  end
  local jobs = math.max(1, vim.uv.available_parallelism() - 1)
  return { make, '-C', root, '--no-print-directory', '-j' .. jobs, 'lib', 'BUILD=build' }
end

--- Why it failed, and what the user should install if the output says so.
---@param output string the last lines of it
---@param signal integer that ended make, or 0
---@return string
function M.cause(output, signal)
  if output:find('uv.h', 1, true) or output:find('-luv', 1, true) then
    return "libuv's header files are missing (Debian: libuv1-dev, Fedora: libuv-devel, Arch and brew: "
      .. 'libuv).'
  end
  local first, last ---@type string?, string?
  for line in output:gmatch('[^\n]+') do
    if not line:find('^g?make[:%[]') then -- which says only that a command failed
      first = first or line:find('[Ee]rror') and line or nil
      last = line
    end
  end
  local line = first
    or signal ~= 0 and ('make was ended by signal %d'):format(signal)
    or last
    or output:match('([^\n]+)%s*$')
    or 'make failed'
  return vim.trim(line) .. '.'
end

--- The last lines of an output that comes in pieces.
---@class gemma.make.Tail
---@field add fun(data: string?): string? the newest whole line
---@field text fun(): string

local KEPT = 200

---@return gemma.make.Tail
function M.tail()
  local lines = {}
  return {
    add = function(data)
      for line in (data or ''):gmatch('[^\n]+') do
        lines[#lines + 1] = line
        if #lines > KEPT then
          table.remove(lines, 1)
        end
      end
      return lines[#lines]
    end,
    text = function()
      return table.concat(lines, '\n')
    end,
  }
end

return M
